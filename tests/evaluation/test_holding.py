"""What feedback holds: every kind, and whether any of it tells two samples apart."""

import pytest

from backflip.evaluation import holding_lines, holdings, order_of, rated_apart, tells_apart
from backflip.evaluation.holding import DECIDES, NOTHING, outcome
from backflip.judging.prompts import TURNED
from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import (
    KINDS,
    Comparison,
    Correction,
    Critique,
    Demonstration,
    FeedbackBase,
    GoodBad,
    Implicit,
    Ranking,
    Rating,
    SafetyFlag,
)
from backflip.statistics import Share, wilson

PAIR = {"annotator": "mia", "samples": ("a", "b")}
ONE = {"annotator": "mia", "sample": "a"}
OUTCOMES: list[tuple[FeedbackBase, str]] = [
    (Comparison(**PAIR, choice="a"), "decides"),
    (Comparison(**PAIR, choice="b", strength=3), "decides"),
    (Comparison(**PAIR, choice="tie"), "tie"),
    (Comparison(**PAIR, choice="tie", tags=("vague",)), "tie"),
    (Comparison(**PAIR, choice="tie", tags=(TURNED,)), "turned"),
    (Comparison(**PAIR, choice="both_bad"), "both_bad"),
    (Ranking(**PAIR, ranks=(2, 1)), "decides"),
    (Ranking(**PAIR, ranks=(1, 1)), "tie"),
    (Rating(**ONE, level=1), "1 of 5"),
    (Rating(**ONE, level=3, num_levels=3), "3 of 3"),
    (GoodBad(**ONE, good=True), "good"),
    (GoodBad(**ONE, good=False), "bad"),
    (Correction(**ONE, corrected="b"), "decides"),
    (Demonstration(**ONE, over=("b",)), "decides"),
    (Demonstration(**ONE), "nothing"),
    (Critique(**ONE, text="Hm."), "nothing"),
    (Critique(**ONE, text="Hm.", level=2), "2 of 5"),
    (SafetyFlag(**ONE, safe=True), "safe"),
    (SafetyFlag(**ONE, safe=False), "unsafe"),
    (Implicit(**ONE, signal="kept"), "kept"),
    (Implicit(**ONE, signal="abandoned", over="b"), "decides"),
]


@pytest.mark.parametrize(("entry", "word"), OUTCOMES)
def test_what_an_entry_comes_to(entry: FeedbackBase, word: str) -> None:
    assert outcome(entry) == word


@pytest.mark.parametrize(
    ("choice", "shown", "first"),
    [("a", (0, 1), 1), ("a", (1, 0), 0), ("b", (0, 1), 0), ("b", (1, 0), 1)],
)
def test_whether_a_judge_chose_what_it_read_first(
    choice: str, shown: tuple[int, int], first: int
) -> None:
    said = Comparison(**PAIR, choice=choice, shown=shown, origin="judge")
    others = [
        said.model_copy(update={"choice": "tie"}),
        said.model_copy(update={"shown": None}),
        said.model_copy(update={"origin": "people"}),
        Rating(**ONE, level=1, origin="judge"),
    ]
    assert order_of([said, *others]) == {"decided": 1, "first": first}


def test_no_kind_is_left_out() -> None:
    """Each kind either decides pairs or gives a sample a level: else nobody could count it."""
    assert {type(entry) for entry, _ in OUTCOMES} == set(KINDS.values())
    for kind in KINDS.values():
        words = {word for entry, word in OUTCOMES if type(entry) is kind}
        levels = {entry.level_said() for entry, _ in OUTCOMES if type(entry) is kind} - {None}
        assert DECIDES in words or levels, kind


def test_counts_by_kind_and_in_words() -> None:
    entries = [entry for entry, _ in OUTCOMES[:6]] + [OUTCOMES[8][0]] * 2
    held = holdings(entries)
    assert held == {
        "comparison": {"both_bad": 1, "decides": 2, "tie": 2, "turned": 1},
        "rating": {"1 of 5": 2},
    }
    assert holding_lines(held) == [
        "6 comparison answers: 2 decide a pair, 2 tied, 1 turned with the order, 1 both bad",
        "2 rating answers: 1 of 5 (2)",
    ]
    assert holding_lines({"comparison": {"turned": 80}}) == [
        "80 comparison answers: none decide a pair, 80 turned with the order"
    ]
    assert holding_lines({"critique": {NOTHING: 3, "4 of 5": 1}}) == [
        "4 critique answers: 4 of 5 (1), 3 say nothing yet"
    ]


def test_what_tells_nothing_apart() -> None:
    """Every single outcome that decides no pair, and all undecided ones of a kind together."""
    for entry, word in OUTCOMES:
        assert tells_apart(holdings([entry] * 3)) == (word == DECIDES)
    undecided = [entry for entry, word in OUTCOMES if word in ("tie", "turned", "both_bad")]
    assert not tells_apart(holdings(undecided))
    assert not tells_apart({})
    assert not tells_apart(holdings([OUTCOMES[8][0], OUTCOMES[10][0], OUTCOMES[17][0]]))
    assert tells_apart(holdings([OUTCOMES[10][0], OUTCOMES[11][0]]))
    assert tells_apart(holdings([Rating(**ONE, level=1), Rating(**ONE, level=2), *undecided]))


def sample(prompt: int, index: int) -> Sample:
    return Sample.of(Prompt.from_text(f"Question {prompt}?"), Completion(text="x"), index=index)


# Three prompts with samples 0, 1 and 2 each.
GRID = [[sample(prompt, index) for index in range(3)] for prompt in range(3)]
SAMPLES = {s.id: s for row in GRID for s in row}


def rated(prompt: int, *levels: int, annotator: str = "mia") -> list[Rating]:
    return [
        Rating(annotator=annotator, sample=GRID[prompt][i].id, level=level)
        for i, level in enumerate(levels)
    ]


def scored(*rows: tuple[float, float, float]) -> dict[str, float]:
    return {GRID[p][i].id: value for p, row in enumerate(rows) for i, value in enumerate(row)}


def test_ratings_are_held_against_each_other_within_a_prompt() -> None:
    entries = [*rated(0, 5, 3, 1), *rated(1, 2, 2), *rated(2, 1, 5)]
    # Prompt 0: two of three pairs in order; 1: no pair is rated apart; 2: the wrong way round.
    scores = scored((3.0, 1.0, 2.0), (0.0, 9.0, 0.0), (2.0, 1.0, 0.0))
    assert rated_apart(entries, scores, SAMPLES) == wilson(2 / 3 + 0.0, 2)


def test_which_prompts_are_answered_well_is_nothing_learned() -> None:
    """Scores that know only the prompt, and order the samples of different prompts perfectly."""
    entries = [*rated(0, 5, 4), *rated(1, 3, 2), *rated(2, 2, 1)]
    scores = scored((9.0, 9.0, 9.0), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))
    found = rated_apart(entries, scores, SAMPLES)
    assert isinstance(found, Share)
    assert (found.value, found.count) == (0.5, 3)


def test_a_sample_that_several_rated_has_their_mean_and_kinds_stay_apart() -> None:
    entries: list[FeedbackBase] = [*rated(0, 5, 2), *rated(0, 1, 5, annotator="noah")]
    scores = scored((0.0, 1.0, 0.0), (0.0,) * 3, (0.0,) * 3)
    assert rated_apart(entries, scores, SAMPLES) == wilson(1, 1), "3.5 of sample 1 is above 3"
    entries += [
        GoodBad(annotator="ann", sample=GRID[0][i].id, good=good)
        for i, good in enumerate((True, False))
    ]
    assert rated_apart(entries, scores, SAMPLES) == wilson(1, 2)


@pytest.mark.parametrize("entries", [[], rated(0, 4, 4, 4), [rated(0, 1)[0], rated(1, 5)[0]]])
def test_none_where_no_two_samples_of_a_prompt_differ(entries: list[Rating]) -> None:
    assert rated_apart(entries, scored(*[(0.0, 1.0, 2.0)] * 3), SAMPLES) is None
