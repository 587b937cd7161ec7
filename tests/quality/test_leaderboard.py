"""The leaderboard against evalica and closed forms; models that votes do not connect."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import evalica
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from leaderboard_votes import by_model, connected_votes, grid, vote
from scipy.special import expit

from backflip.errors import SettingsError
from backflip.quality.leaderboard import Group, Standing, Vote, leaderboard, votes_of
from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import Comparison, GoodBad
from backflip.statistics.bradley_terry import connected_groups, fit_strengths

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "leaderboard.py"
WINNER = {"a": evalica.Winner.X, "b": evalica.Winner.Y, "tie": evalica.Winner.Draw}


# Strengths


@given(connected_votes())
def test_strengths_are_those_of_evalica(votes: list[Vote]) -> None:
    expected = np.log(
        evalica.bradley_terry(
            [v.a for v in votes],
            [v.b for v in votes],
            [WINNER[v.outcome] for v in votes],
            win_weight=1.0,
            tie_weight=0.5,
            tolerance=1e-13,
            limit=100_000,
        ).scores
    )
    board = leaderboard(votes)
    for standing in board.standings:
        theirs = expected[standing.model] - expected.mean()
        assert standing.strength == pytest.approx(theirs, abs=1e-7)


def test_strengths_of_two_models_are_half_the_log_odds_each() -> None:
    board = by_model(leaderboard(grid([[1, 1, 1], [1, 1, 0], [1, 0, 0]]), reference="y"))
    assert board["x"].strength == pytest.approx(math.log(6 / 3) / 2)
    assert board["y"].strength == pytest.approx(-math.log(6 / 3) / 2)
    assert board["x"].win_rate == pytest.approx(6 / 9)
    assert (board["x"].rank, board["y"].rank) == (1, 2)


def test_elo_has_400_points_for_odds_of_ten_to_one() -> None:
    board = by_model(leaderboard(grid([[1] * 10 + [0]])))
    assert board["x"].elo == pytest.approx(1200)
    assert board["y"].elo == pytest.approx(800)
    width = board["x"].high - board["x"].low
    elo_width = board["x"].elo_high - board["x"].elo_low
    assert elo_width == pytest.approx(width * 400 / math.log(10))


def test_a_tie_is_half_a_win_for_each() -> None:
    board = leaderboard([vote("x", "y", "tie"), vote("x", "y", "tie"), vote("x", "y", "a")])
    x = by_model(board)["x"]
    assert x.strength == pytest.approx(math.log(2 / 1) / 2)
    assert (x.wins, x.losses, x.ties, x.num_votes) == (1, 0, 2, 3)
    y = by_model(board)["y"]
    assert (y.wins, y.losses, y.ties, y.num_votes) == (0, 1, 2, 3)


def test_long_lopsided_chains_are_fitted() -> None:
    """Without a circle each difference is a log odds; here they add up to 1,147 logits."""
    wins = np.diag(np.full(83, 1e6), 1) + np.diag(np.ones(83), -1)
    strengths, _ = fit_strengths(wins)
    assert np.diff(strengths) == pytest.approx(-math.log(1e6), rel=1e-6)


def test_whole_steps_of_newton_would_not_get_there() -> None:
    """Where each model's expected wins are its wins, the likelihood is greatest (Ford 1957)."""
    wins = np.array([[0.0, 0, 0, 50], [21349, 0, 8554, 0], [0, 5, 0, 0], [0, 1, 35643, 0]])
    strengths, _ = fit_strengths(wins)
    games = wins + wins.T
    expected = games * expit(strengths[:, None] - strengths)
    assert expected.sum(1) == pytest.approx(wins.sum(1), rel=1e-9)
    assert abs(strengths.sum()) < 1e-9


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_inverse_is_that_of_the_information_on_differences(ridge: float) -> None:
    wins = np.array([[0.0, 3, 1], [1, 0, 4], [2, 2, 0]])
    strengths, inverse = fit_strengths(wins, ridge)
    information = ridge * np.eye(3)
    for i, j in combinations(range(3), 2):
        p = expit(strengths[i] - strengths[j])
        between = np.eye(3)[i] - np.eye(3)[j]
        information += (wins + wins.T)[i, j] * p * (1 - p) * np.outer(between, between)
    centre = np.eye(3) - 1 / 3
    assert inverse == pytest.approx(np.linalg.pinv(centre @ information @ centre), abs=1e-9)


# Order, names and sides


@given(connected_votes(), st.randoms(use_true_random=False))
def test_order_sides_and_names_change_nothing(votes: list[Vote], random) -> None:
    turn = {"a": "b", "b": "a", "tie": "tie"}
    models = sorted({v.a for v in votes})
    names = dict(zip(models, random.sample(models, len(models)), strict=True))
    changed = [
        Vote(names[v.b], names[v.a], turn[v.outcome], f"other {v.prompt}", f"other {v.annotator}")
        if random.random() < 0.5
        else Vote(names[v.a], names[v.b], v.outcome, f"other {v.prompt}", f"other {v.annotator}")
        for v in votes
    ]
    random.shuffle(changed)
    before = by_model(leaderboard(votes, reference="m0"))
    after = by_model(leaderboard(changed, reference=names["m0"]))
    for name, one in before.items():
        other = after[names[name]]
        for field in ("wins", "losses", "ties"):
            assert getattr(one, field) == getattr(other, field)
        for field in ("strength", "low", "high", "win_rate", "win_rate_low", "win_rate_high"):
            expected = getattr(one, field)
            if expected is None:
                assert getattr(other, field) is None
            else:
                assert getattr(other, field) == pytest.approx(expected, rel=1e-6, abs=1e-5)


# Connection


RING = [
    *(vote("x", "y", "a", i, i % 2) for i in range(3)),
    *(vote("y", "z", "a", i, i % 2) for i in range(3)),
    *(vote("z", "x", "tie", i, i % 2) for i in range(2)),
]


@pytest.mark.parametrize(
    ("others", "outside", "told"),
    [
        ([vote("best", "x", "a")], "won", "best: won every vote"),
        ([vote("x", "worst", "a"), vote("worst", "z", "b")], "lost", "worst: lost every vote"),
        ([vote("u", "v", "a"), vote("v", "u", "a")], "none", "u, v: never met"),
    ],
)
def test_models_that_votes_do_not_connect_are_told_of_and_not_placed(
    others: list[Vote], outside: str, told: str
) -> None:
    board = leaderboard(others + RING, reference="y")
    assert not board.connected
    assert board.groups[0].models == ("x", "y", "z")
    (group,) = board.groups[1:]
    assert group.outside == outside
    assert told in board.notice
    assert "x, y, z" not in board.notice
    placed, left = board.standings[:3], board.standings[3:]
    assert tuple(s.model for s in left) == group.models
    for standing in left:
        assert standing.num_votes == sum(standing.model in v[:2] for v in others)
        known = standing.model, standing.wins, standing.losses, standing.ties
        assert standing == Standing(*known)
        assert standing.elo is None
    alone = leaderboard(RING, reference="y")
    assert (board.num_prompts, board.num_annotators) == (alone.num_prompts, alone.num_annotators)
    for standing, same in zip(placed, alone.standings, strict=True):
        counts = {name: getattr(same, name) for name in ("wins", "losses", "ties")}
        assert replace(standing, **counts) == same


def test_a_model_that_won_and_lost_is_placed() -> None:
    board = leaderboard([*RING, vote("x", "middle", "a"), vote("middle", "z", "a")])
    assert board.connected
    assert board.notice is None
    assert board.groups == (Group(("middle", "x", "y", "z"), "none"),)
    assert all(s.strength is not None for s in board.standings)


def test_an_unplaced_reference_gives_no_win_rates() -> None:
    board = leaderboard([*RING, vote("best", "x", "a")], reference="best")
    assert board.reference == "best"
    assert [s.win_rate for s in board.standings] == [None] * 4
    assert board.standings[0].strength is not None


def test_a_group_between_two_others_is_told_of() -> None:
    low = [vote("u", "v", "a"), vote("v", "u", "a")]
    board = leaderboard([*RING, vote("x", "mid", "a"), vote("mid", "u", "a"), *low])
    assert board.groups == (
        Group(("x", "y", "z"), "won"),
        Group(("u", "v"), "lost"),
        Group(("mid",), "won and lost"),
    )


def test_where_every_model_stands_alone_none_is_placed() -> None:
    board = leaderboard([vote("x", "y", "a"), vote("y", "z", "a")], reference="y")
    assert [s.strength for s in board.standings] == [None] * 3
    assert [s.wins for s in board.standings] == [1, 1, 0]
    assert len(board.groups) == 3
    assert all(name in board.notice for name in "xyz")
    assert (board.num_prompts, board.num_annotators) == (0, 0)


def test_a_ridge_places_every_model_and_the_notice_stays() -> None:
    """x won all 5: n log s(2 x) - ridge x^2 is greatest where n (1 - s(2 x)) = ridge x.

    Its curvature there, 4 n s (1 - s) + 2 ridge, is the inverse of the posterior's variance.
    """
    votes = [vote("x", "y", "a", i, i % 2) for i in range(5)]
    board = leaderboard(votes, ridge=0.1)
    x, y = (by_model(board)[name].strength for name in "xy")
    assert x == pytest.approx(-y)
    share = expit(2 * x)
    assert 5 * (1 - share) == pytest.approx(0.1 * x, rel=1e-9)
    half = by_model(board)["x"].high - x
    deviation = 1 / math.sqrt(4 * 5 * share * (1 - share) + 2 * 0.1)
    assert half == pytest.approx(12.706205 * deviation, rel=1e-6)
    assert not board.connected
    assert board.notice.startswith("Only the prior says")
    assert leaderboard(votes).notice.startswith("These models have no finite strength")


def test_a_ridge_draws_strengths_together_and_none_is_the_limit() -> None:
    free = by_model(leaderboard(RING))
    ends = [free[name].strength for name in "xz"]
    for ridge, nearer in ((1e-9, False), (1.0, True)):
        held = by_model(leaderboard(RING, ridge=ridge))
        for name, end in zip("xz", ends, strict=True):
            assert (abs(held[name].strength) < abs(end) * 0.9) == nearer
            assert (held[name].strength == pytest.approx(end, abs=1e-8)) != nearer


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(1, 6), st.sampled_from(["a", "b", "tie"])),
        max_size=14,
    )
)
def test_groups_are_the_strong_components(pairs: list[tuple[int, int, str]]) -> None:
    import networkx

    votes = [vote(f"m{i}", f"m{(i + step) % 7}", outcome) for i, step, outcome in pairs]
    graph = networkx.DiGraph()
    for v in votes:
        graph.add_nodes_from((v.a, v.b))
        if v.outcome != "b":
            graph.add_edge(v.a, v.b)
        if v.outcome != "a":
            graph.add_edge(v.b, v.a)
    expected = {frozenset(c) for c in networkx.strongly_connected_components(graph)}
    board = leaderboard(votes)
    assert {frozenset(g.models) for g in board.groups} == expected
    sizes = [len(g.models) for g in board.groups]
    assert sizes == sorted(sizes, reverse=True)
    placed = {s.model for s in board.standings if s.strength is not None}
    assert placed == (set(board.groups[0].models) if sizes and sizes[0] > 1 else set())


def groups_by_closure(wins: np.ndarray) -> list[list[int]]:
    """The slow way: who is reached from whom, by Warshall's closure, and those who reach back."""
    size = len(wins)
    reached = [[i == j or wins[i, j] > 0 for j in range(size)] for i in range(size)]
    for k, i, j in product(range(size), repeat=3):
        reached[i][j] |= reached[i][k] and reached[k][j]
    groups = {tuple(j for j in range(size) if reached[i][j] and reached[j][i]) for i in range(size)}
    votes = {group: sum(wins[i, j] for i in group for j in group) for group in groups}
    return [list(g) for g in sorted(groups, key=lambda g: (-len(g), -votes[g], g[0]))]


@given(st.integers(0, 8), st.integers(0, 2**32 - 1), st.floats(0, 0.5))
def test_groups_and_their_order_are_those_of_a_slow_twin(
    size: int, seed: int, density: float
) -> None:
    draw = np.random.default_rng(seed)
    wins = draw.integers(1, 4, (size, size)) / 2 * (draw.random((size, size)) < density)
    np.fill_diagonal(wins, 0.0)
    assert [group.tolist() for group in connected_groups(wins)] == groups_by_closure(wins)


def test_no_votes_make_an_empty_board() -> None:
    board = leaderboard([])
    assert (board.standings, board.groups, board.notice) == ((), (), None)
    assert leaderboard([], ridge=0.1).standings == ()


# What is refused


def test_what_cannot_be_a_vote_is_refused() -> None:
    with pytest.raises(ValueError, match="with itself"):
        leaderboard([vote("x", "y", "a"), vote("x", "x", "a")])
    with pytest.raises(ValueError, match="'both_bad'"):
        leaderboard([vote("x", "y", "both_bad")])
    for wrong in ({"confidence": 1.0}, {"confidence": 0.0}, {"ridge": -1.0}, {"ridge": math.inf}):
        with pytest.raises(ValueError, match="confidence"):
            leaderboard([vote("x", "y", "tie")], **wrong)


def test_an_unknown_reference_names_the_models() -> None:
    with pytest.raises(SettingsError, match="'w'") as caught:
        leaderboard(RING, reference="w")
    assert "x, y, z" in str(caught.value)


# From the journal


def test_votes_of_comparisons() -> None:
    prompts = [Prompt.from_text(text) for text in ("Is it late?", "Where is it?")]
    samples = {
        f"{model or 'someone'} {i}": Sample.of(prompt, Completion(text="Yes."), model=model)
        for i, prompt in enumerate(prompts)
        for model in ("old", "new", None)
    }
    samples["old again"] = Sample.of(prompts[0], Completion(text="No."), model="old", index=1)
    entries = [
        Comparison(annotator="mia", samples=("old 0", "new 0"), choice="a", strength=2),
        Comparison(annotator="bo", samples=("new 1", "old 1"), choice="both_bad"),
        GoodBad(annotator="bo", sample="new 1", good=True),
        Comparison(annotator="bo", samples=("someone 1", "old 1"), choice="b"),
        Comparison(annotator="bo", samples=("old 0", "old again"), choice="a"),
        Comparison(annotator="mia", samples=("old 0", "someone 0"), choice="tie"),
    ]
    assert votes_of(entries, samples) == [
        Vote("old", "new", "a", prompts[0].id, "mia"),
        Vote("new", "old", "tie", prompts[1].id, "bo"),
        Vote("human", "old", "b", prompts[1].id, "bo"),
        Vote("old", "human", "tie", prompts[0].id, "mia"),
    ]
    with pytest.raises(KeyError, match="new 0"):
        votes_of(entries, {k: s for k, s in samples.items() if k != "new 0"})


# Around it


def test_import_brings_nothing_heavy() -> None:
    code = "import backflip.quality.leaderboard, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"scipy", "torch", "sqlalchemy", "pandas"} & set(done.stdout.split())


def test_benchmark_prints_one_line_and_finds_what_evalica_does() -> None:
    given = ["--votes", "600", "--models", "5", "--prompts", "30", "--annotators", "9"]
    command = [sys.executable, str(BENCHMARK), *given, "--repeat", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    row = json.loads(line)
    assert row["benchmark"] == "leaderboard"
    assert (row["votes"], row["models"], row["repeat"]) == (600, 5, 2)
    assert 0 < row["lowest"] <= row["seconds"] <= row["highest"]
    assert 0 < row["evalica_lowest"] <= row["evalica_seconds"] <= row["evalica_highest"]
    assert row["max_difference"] < 1e-6
