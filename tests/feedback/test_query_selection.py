"""Which candidates are asked about: closed forms, slow twins and what must hold of any choice."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from backflip.config import SelectionSettings
from backflip.feedback.query_selection import (
    Candidate,
    Selection,
    closeness,
    disagreement,
    k_centre_greedy,
    select,
    set_embeddings,
)

PAIR = [Candidate("p", (0, 1))]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pairs(number: int) -> list[Candidate]:
    """Pairs of samples, each of a prompt of its own."""
    return [Candidate(f"p{i}", (2 * i, 2 * i + 1)) for i in range(number)]


def told(*chances: float) -> np.ndarray:
    """Scores of two samples by which the members give the first these chances."""
    return np.array([[math.log(p / (1 - p)), 0.0] for p in chances])


def of_pairs(gaps: list[list[float]]) -> np.ndarray:
    """Scores (M, 2P) whose differences within the pairs are these (M, P)."""
    return np.array([[x for gap in row for x in (gap, 0.0)] for row in gaps])


def by(strategy: str, share: float = 0.2, pool: int = 4) -> SelectionSettings:
    return SelectionSettings.parse({"strategy": strategy, "random_share": share, "pool": pool})


@pytest.mark.parametrize(
    ("chances", "nats"),
    [
        # ln 2 - (3/4 ln 4/3 + 1/4 ln 4)
        ((0.75, 0.25), 0.130812035941137),
        # H(1/2) - (H(1/2) + H(0.9)) / 2 of a mean of 0.7: 0.6108643 - (0.6931472 + 0.3250830) / 2
        ((0.5, 0.9), 0.1017492),
        ((0.8, 0.8, 0.8), 0.0),
        ((0.5, 0.5), 0.0),
        ((0.3,), 0.0),
        ((1 - 1e-12, 1e-12), math.log(2)),
    ],
)
def test_disagreement_is_what_an_answer_tells_of_the_member(chances, nats: float) -> None:
    assert disagreement(PAIR, told(*chances))[0] == pytest.approx(nats, abs=1e-7)


def test_disagreement_stays_finite_where_nobody_doubts() -> None:
    assert disagreement(PAIR, np.array([[2000.0, 0.0], [2000.0, 0.0]]))[0] == 0.0
    found = disagreement(PAIR, np.array([[2000.0, 0.0], [0.0, 2000.0]]))[0]
    assert found == pytest.approx(math.log(2))


def test_near_a_coin_disagreement_is_twice_the_variance() -> None:
    """The expansion of H at 1/2: ln 2 - 2 (p - 1/2)^2."""
    chances = (0.49, 0.505, 0.52)
    expected = 2 * float(np.var(chances))
    assert disagreement(PAIR, told(*chances))[0] == pytest.approx(expected, rel=0.01)


def test_disagreement_and_variance_part_where_an_answer_is_nearly_certain() -> None:
    certain, open_ = (0.05, 0.25), (0.38, 0.62)
    assert np.var(certain) < np.var(open_)
    # H(0.15) - (H(0.05) + H(0.25)) / 2 = 0.0423, H(0.5) - H(0.38) = 0.0291
    values = [float(disagreement(PAIR, told(*chances))[0]) for chances in (certain, open_)]
    assert values == pytest.approx([0.04229, 0.02908], abs=1e-4)


def test_swapping_the_samples_of_a_pair_changes_nothing() -> None:
    scores = rng().normal(size=(5, 2))
    for measure in (disagreement, closeness):
        assert measure(PAIR, scores) == pytest.approx(measure([Candidate("p", (1, 0))], scores))


def test_closeness_is_by_the_mean_over_members() -> None:
    # Gaps of 3 and -1: the mean is 1 from a tie, though no member is.
    assert closeness(PAIR, of_pairs([[3.0], [-1.0]])) == pytest.approx([-1.0])
    assert closeness(PAIR, of_pairs([[2.0], [-2.0]])) == pytest.approx([0.0])


def entropy(p: float) -> float:
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


def test_sets_of_several_count_all_their_pairs_alike() -> None:
    """Against a slow twin: sets of two to four samples, in any order of places."""
    scores = rng(4).normal(size=(3, 9))
    sets = [(8, 2), (0, 5, 3), (1, 4, 6, 7)]
    candidates = [Candidate(str(i), places) for i, places in enumerate(sets)]
    informed, close = [], []
    for places in sets:
        informations, gaps = [], []
        for i, j in combinations(places, 2):
            chances = [1 / (1 + math.exp(member[j] - member[i])) for member in scores]
            whole = entropy(sum(chances) / 3)
            informations.append(whole - sum(map(entropy, chances)) / 3)
            gaps.append(abs(sum(member[i] - member[j] for member in scores) / 3))
        informed.append(sum(informations) / len(informations))
        close.append(-sum(gaps) / len(gaps))
    assert disagreement(candidates, scores) == pytest.approx(informed)
    assert closeness(candidates, scores) == pytest.approx(close)


def test_a_single_sample_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="fewer than two samples"):
        disagreement([*PAIR, Candidate("q", (2,))], np.zeros((2, 3)))


def test_an_embedding_is_the_mean_of_a_sets_samples() -> None:
    points = np.array([[0.0, 0.0], [2.0, 4.0], [7.0, 1.0]])
    found = set_embeddings([Candidate("p", (0, 1)), Candidate("q", (2,))], points)
    assert found.tolist() == [[1.0, 2.0], [7.0, 1.0]]


def test_the_farthest_point_comes_next() -> None:
    line = np.array([[0.0], [1.0], [5.0], [6.0], [10.0]])
    # From 0, 10 is farthest; then 5, at 5 from both; then 1 and 6, at 1: the first of them.
    assert k_centre_greedy(line, 4, rng(), np.array([[0.0]])) == [4, 2, 1, 3]
    assert k_centre_greedy(line, 2, rng(), np.array([[10.0], [5.5]])) == [0, 1]


def test_without_centres_the_first_point_is_drawn() -> None:
    line = np.array([[0.0], [1.0], [5.0]])
    first = [k_centre_greedy(line, 1, rng(seed))[0] for seed in range(60)]
    assert set(first) == {0, 1, 2}


def test_equal_points_are_picked_once_each() -> None:
    assert sorted(k_centre_greedy(np.zeros((4, 2)), 4, rng())) == [0, 1, 2, 3]


def radius(points: np.ndarray, centres: np.ndarray) -> float:
    """The largest distance of a point from its nearest centre."""
    return max(min(math.dist(p, c) for c in centres) for p in points)


@given(st.integers(0, 2**32), st.integers(3, 8), st.integers(1, 3), st.integers(0, 2))
def test_no_point_is_more_than_twice_as_far_as_it_must_be(
    seed: int, number: int, picks: int, known: int
) -> None:
    """Against the best of all choices; with centres that are there already, of those with them."""
    source = rng(seed)
    points = source.integers(-5, 6, size=(number, 2)).astype(float)
    centres = source.integers(-5, 6, size=(known, 2)).astype(float)
    picked = k_centre_greedy(points, picks, source, centres)
    assert len(set(picked)) == picks
    best = min(
        radius(points, np.concatenate([centres, points[list(chosen)]]))
        for chosen in combinations(range(number), picks)
    )
    assert radius(points, np.concatenate([centres, points[picked]])) <= 2 * best + 1e-9


def test_the_strategy_picks_the_best_that_are_not_drawn() -> None:
    gaps = [[0.1 * i for i in range(20)], [-0.1 * i for i in range(20)]]
    for seed in range(20):
        chosen = select(pairs(20), 10, by("disagreement"), rng(seed), scores=[of_pairs(gaps)])
        assert len(chosen.drawn) == 2
        left = [i for i in range(20) if i not in chosen.drawn]
        assert chosen.picked == tuple(left[-8:])
        assert chosen.asked == tuple(sorted(chosen.drawn + chosen.picked))


def test_margin_picks_what_is_nearest_to_a_tie() -> None:
    gaps = [[5.0, -0.2, 3.0, 0.1, -4.0, 2.0, -0.3, 6.0]]
    chosen = select(pairs(8), 4, by("margin", 0.25), rng(1), scores=[of_pairs(gaps)])
    order = [i for i in (3, 1, 6, 5, 2, 4, 0, 7) if i not in chosen.drawn]
    assert chosen.picked == tuple(sorted(order[:3]))


def test_axes_count_alike() -> None:
    """On one axis the first pair is in doubt, on the other the second, and less so."""
    one, other = of_pairs([[3.0, 0.0], [-3.0, 0.0]]), of_pairs([[0.0, 1.0], [0.0, -1.0]])
    settings = by("disagreement", 0.01)
    for scores, expected in (([one, other], 0), ([other, other], 1), ([one], 0)):
        seen = set()
        for seed in range(30):
            chosen = select(pairs(2), 1, settings, rng(seed), scores=scores)
            assert len(chosen.drawn) == 1  # at least one is always drawn
            chosen = select(pairs(2), 2, settings, rng(seed), scores=scores)
            seen |= {chosen.drawn}
        assert seen == {(0,), (1,)}
        three = [*pairs(2), Candidate("p2", (4, 5))]
        padded = [np.concatenate([s, np.zeros((2, 2))], 1) for s in scores]
        held = {"p2"}
        chosen = select(three, 2, settings, rng(), scores=padded, heldout=held, heldout_share=0.1)
        assert chosen == Selection(drawn=(2,), picked=(expected,))


def test_diverse_keeps_away_from_what_is_drawn_and_what_was_asked() -> None:
    points = np.repeat(np.array([[0.0], [0.1], [10.0], [10.1], [20.0]]), 2, 0)
    held = {"p0"}
    chosen = select(
        pairs(5), 3, by("diverse", 0.2), rng(), embeddings=points, heldout=held, heldout_share=0.1
    )
    assert chosen == Selection(drawn=(0,), picked=(2, 4))
    known = np.array([[20.0]])
    chosen = select(
        pairs(5),
        2,
        by("diverse", 0.2),
        rng(),
        embeddings=points,
        known=known,
        heldout=held,
        heldout_share=0.1,
    )
    assert chosen == Selection(drawn=(0,), picked=(2,))  # 10 from either; 10.1 is nearer to 20


def uniform(counts: list[int]) -> bool:
    """Whether these may well be counts of draws that are all as likely, once in 10,000 not."""
    return bool(stats.chisquare(counts).pvalue > 1e-4)


def test_what_is_drawn_is_drawn_uniformly_whatever_the_scores() -> None:
    scores = [of_pairs([list(range(12)), list(range(0, -12, -1))])]
    counts, together = [0] * 12, 0
    for seed in range(3000):
        chosen = select(pairs(12), 6, by("disagreement", 0.5), rng(seed), scores=scores)
        assert len(chosen.drawn) == 3
        for i in chosen.drawn:
            counts[i] += 1
        together += {0, 11} <= set(chosen.drawn)
    # Each is in 3 of 12; not independent within a draw, which only makes the counts more even.
    assert uniform(counts)
    # Two that are given are both drawn with probability (3 choose 2) / (12 choose 2) = 1/22.
    assert together == pytest.approx(3000 / 22, abs=4 * math.sqrt(3000 / 22))


def test_the_held_out_side_is_asked_about_by_lot_alone_and_in_its_share() -> None:
    heldout = {f"p{i}" for i in range(4)}
    scores = [of_pairs([[9.0] * 4 + [0.1] * 16, [-9.0] * 4 + [-0.1] * 16])]
    held, free = [0] * 4, [0] * 16
    for seed in range(2000):
        chosen = select(
            pairs(20),
            10,
            by("disagreement", 0.4),
            rng(seed),
            scores=scores,
            heldout=heldout,
            heldout_share=0.15,
        )
        assert len(chosen.drawn) == 4
        assert len(chosen.picked) == 6
        assert min(chosen.picked) >= 4
        ours = [i for i in chosen.drawn if i < 4]
        assert len(ours) == 2  # 0.15 of 10, rounded up
        for i in ours:
            held[i] += 1
        for i in chosen.drawn:
            if i >= 4:
                free[i - 4] += 1
    assert uniform(held)
    assert uniform(free)


def test_equal_values_are_picked_by_lot() -> None:
    counts = [0] * 8
    for seed in range(1600):
        chosen = select(pairs(8), 4, by("margin", 0.2), rng(seed), scores=[np.zeros((1, 16))])
        for i in chosen.picked:
            counts[i] += 1
    assert uniform(counts)


@given(
    st.integers(0, 2**32),
    st.integers(0, 15),
    st.integers(0, 20),
    st.floats(0.01, 0.99),
    st.floats(0.0, 0.5),
    st.sampled_from(["random", "disagreement", "margin", "diverse"]),
)
def test_of_any_pool_the_right_number_is_asked_once(
    seed: int, size: int, number: int, share: float, heldout_share: float, strategy: str
) -> None:
    source = rng(seed)
    candidates = pairs(size)
    heldout = {c.prompt for c in candidates if source.random() < 0.3}
    settings = SelectionSettings.model_construct(strategy=strategy, random_share=share, pool=4)
    given_ = {
        "scores": [source.normal(size=(3, 2 * size))],
        "embeddings": source.normal(size=(2 * size, 2)),
        "heldout": heldout,
        "heldout_share": heldout_share,
    }
    chosen = select(candidates, number, settings, rng(seed), **given_)
    assert chosen == select(candidates, number, settings, rng(seed), **given_)
    assert not set(chosen.drawn) & set(chosen.picked)
    assert len(chosen.asked) == len(set(chosen.asked)) <= number
    assert not {candidates[i].prompt for i in chosen.picked} & heldout
    free = size - len(heldout)
    of_heldout = sum(candidates[i].prompt in heldout for i in chosen.drawn)
    assert of_heldout <= math.ceil(heldout_share * number)
    assert len(chosen.asked) == of_heldout + min(number - of_heldout, free)
    # At least the share is drawn, unless the pool has not so many.
    assert len(chosen.drawn) >= min(math.floor(share * number), of_heldout + free)


def test_a_share_that_is_whole_is_not_rounded_up() -> None:
    """0.14 times 50 is 7.000000000000001 in binary."""
    chosen = select(pairs(60), 50, by("margin", 0.14), rng(), scores=[np.zeros((1, 120))])
    assert len(chosen.drawn) == 7


@pytest.mark.parametrize("strategy", ["disagreement", "margin", "diverse"])
def test_a_strategy_says_what_it_lacks(strategy: str) -> None:
    with pytest.raises(ValueError, match="goes by"):
        select(pairs(4), 2, by(strategy), rng())
    bad = np.full((2, 8), np.nan)
    with pytest.raises(ValueError, match="not finite"):
        select(pairs(4), 2, by(strategy), rng(), scores=[bad], embeddings=bad.T)
