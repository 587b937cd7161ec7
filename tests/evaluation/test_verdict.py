"""No text says that a policy is better where nobody judged it, whatever its reward says."""

import itertools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backflip.cli.results import evaluation_lines, reward_lines
from backflip.evaluation import doubt_of_feedback, doubt_of_reward, headline
from backflip.evaluation.report import gather, summary
from backflip.evaluation.report.page import render
from backflip.evaluation.verdict import preference_of_reward, win_rate_of
from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import Comparison
from backflip.records.figures import KeptInterval, RewardReport
from backflip.records.results import EvaluationResult, FeedbackResult, PeopleCounts, RewardResult
from backflip.statistics import wilson
from backflip.workspace import ModelRecord, Workspace

CLAIM = re.compile(r"is better than|is worse than|cannot be told apart|\bwins\b|win rate +\d", re.I)
WINS = {
    "better": {"value": 0.83, "low": 0.55, "high": 0.95},
    "worse": {"value": 0.2, "low": 0.1, "high": 0.4},
    "unclear": {"value": 0.6, "low": 0.45, "high": 0.75},
}
SAID = {
    "name": "judge:m",
    "pairs": 6,
    "prompts": 6,
    "policy": 2,
    "start": 1,
    "tie": 0,
    "both_bad": 0,
    "turned": 2,
    "same": 0,
    "unanswered": 1,
}
PEOPLE = {"votes": 12, "prompts": 7, "annotators": 3}
WHO = {"gold": "the gold measure", "judge": "the judge m", "people": "3 people"}
SOURCES = ("teachers", "people", "judge")
NUMBERS = itertools.count()


@pytest.fixture
def desk(sqlite_template: Path, tmp_path: Path) -> Iterator[Workspace]:
    """A workspace on SQLite: what is told does not hang on the database."""
    shutil.copytree(sqlite_template, tmp_path / "desk")
    with Workspace.open(tmp_path / "desk") as opened:
        yield opened


def evaluated(
    by: str | None, win: dict[str, float] | None, prompts: int | None = None
) -> EvaluationResult:
    """The result of an evaluation; of an earlier version where the reward is said to judge.

    Args:
        by: whose word it is.
        win: the win rate.
        prompts: that it is of; None: as many as each who judges has above.
    """
    counted = {"prompts": prompts} if prompts is not None else {}
    values = {
        "model": "policy",
        "against": "base",
        "judged_by": by,
        "prompts": prompts or 64,
        "kl": {"value": 4.5, "low": 4.0, "high": 5.0},
        "means": {"reward": {"before": 0.1, "after": 0.6}},
        "examples": [],
        **({"win_rate": win} if win else {}),
        **({"judge": SAID | counted} if by == "judge" else {}),
        **({"people": PEOPLE | counted} if by == "people" else {}),
        **({"reward_prefers": WINS["better"]} if by != "reward" else {}),
    }
    return EvaluationResult.model_validate(values)


def texts(desk: Workspace, evaluation: EvaluationResult, source: str) -> dict[str, str]:
    """Everything that tells how a round came out."""
    recipe = {"feedback": {"source": source, "gold": "sentiment"}, "prompts": {"source": "p.txt"}}
    run = f"run-{next(NUMBERS)}"
    desk.runs.start(run, "night", recipe, "1.2.3")
    desk.stages.finish(run, "round-1/evaluate", evaluation)
    return {
        "headline": headline(evaluation),
        "summary": summary(desk, run),
        "page": re.sub(r"<style>.*?</style>|<[^>]+>", " ", render(gather(desk, run))),
        "evaluate": evaluation_lines(evaluation),
    }


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("by", [None, "reward"])
def test_without_a_judgement_no_text_claims_anything(
    desk: Workspace, source: str, by: str | None
) -> None:
    told = texts(desk, evaluated(by, WINS["better"] if by else None), source)
    for name, text in told.items():
        assert not CLAIM.search(text), (name, text)
        assert "Nobody has judged the policy" in text, name
        if name != "headline":
            assert "the reward model that was optimised prefers the policy in 83.0%" in text, name
            assert "no verdict" in text, name
    assert "playground" in told["summary"]
    assert "feedback.judge" in told["page"]


@pytest.mark.parametrize(("by", "how"), [(by, how) for by in WHO for how in WINS])
def test_a_judgement_is_told_with_whose_it_is(desk: Workspace, by: str, how: str) -> None:
    words = {
        "better": "is better than",
        "worse": "is worse than",
        "unclear": "cannot be told apart",
    }
    for name, text in texts(desk, evaluated(by, WINS[how]), "teachers").items():
        assert CLAIM.search(text), name
        other = "starting model" if name in ("summary", "page") else "model that it is held against"
        assert re.search(rf"{words[how]}( from)? the {other}, by {WHO[by]}:", text), name
        assert not [other for other in set(words.values()) - {words[how]} if other in text], name


@pytest.mark.parametrize("by", WHO)
def test_a_verdict_on_too_few_prompts_is_none_in_any_text(desk: Workspace, by: str) -> None:
    """A coin wins 5 of 5 in 1 of 32 cases, and loses as many: the intervals leave one half out."""
    for count, few in ((5, True), (6, False)):
        for won, side in ((count, "is better than"), (0, "is worse than")):
            found = wilson(won, count)
            win = {"value": won / count, "low": found.low, "high": found.high}
            evaluation = evaluated(by, win, count)
            for name, text in texts(desk, evaluation, "teachers").items():
                assert ("too few to tell" in text) == few, (name, count, text)
                assert bool(re.search("is better than|is worse than", text)) != few, (name, count)
                assert ("cannot be told apart from" in text) == few, (name, count)
                assert few or side in text, (name, count)


def test_a_verdict_that_hangs_on_the_order_is_told_in_the_headline() -> None:
    told = headline(evaluated("judge", WINS["unclear"]), rounds=2)
    assert told == (
        "After 2 rounds the policy cannot be told apart from the starting model, by the judge m: "
        "it wins 60.0% of 6 held-out prompts (interval 45.0% to 75.0%). Its verdict turned with "
        "the order on 2 of 6 pairs, which count as ties."
    )
    assert "turned" not in headline(evaluated("gold", WINS["unclear"]))


def test_what_the_reward_prefers_is_never_a_win_rate() -> None:
    assert win_rate_of(evaluated("reward", WINS["better"])) is None
    assert win_rate_of(evaluated(None, None)) is None
    for by in (*WHO, "reward"):
        prefers = preference_of_reward(evaluated(by, WINS["better"]))
        assert prefers is not None
        assert prefers.model_dump() == WINS["better"]
    kept = evaluated("gold", WINS["unclear"]).kept()
    del kept["reward_prefers"]
    assert preference_of_reward(EvaluationResult.model_validate(kept)) is None


def share(right: float, count: float) -> dict[str, float]:
    found = wilson(right, count)
    return {"value": found.value, "low": found.low, "high": found.high, "count": count}


def reported(**values: Any) -> RewardReport:
    """What was measured of a reward model."""
    plain = {"accuracy": None, "calibration": None, "reliabilities": {}, "trained_on": 40}
    return RewardReport.model_validate({**plain, **values})


def accurate(overall: dict[str, float]) -> dict[str, Any]:
    parts = ("by_strength", "by_length", "by_annotator", "by_kind")
    return {"overall": overall, **{part: {} for part in parts}}


def told_by(**values: Any) -> FeedbackResult:
    """What a round was told."""
    plain = {"snapshot": "s", "entries": 80, "new_entries": 80, "skipped": 0}
    return FeedbackResult.model_validate({**plain, "annotators": ["judge:m"], **values})


def test_a_reward_model_that_is_not_shown_to_beat_chance_is_doubted() -> None:
    """The bound decides: of 48 pairs 33 right are enough. A coin is right on 5 of 5 in 1 of 32
    cases, which is more than the bound allows, and on 6 of 6 in 1 of 64.
    """
    for right, count, shown in ((27, 48, False), (33, 48, True), (5, 5, False), (6, 6, True)):
        chance = {**share(right, count), "of": "pairs"}
        doubt = doubt_of_reward("overall", reported(chance=chance, heldout=count))
        assert (doubt is None) == shown, (right, count)
    doubt = doubt_of_reward("safe", reported(chance={**share(26, 48), "of": "pairs"}, heldout=50))
    assert doubt == (
        "the reward model of 'safe' is not shown to beat chance: 54% [40%, 67%] of 48 held-out "
        "pairs"
    )
    few = {**share(4, 4), "of": "prompts rated apart"}
    told = str(doubt_of_reward("overall", reported(chance=few, heldout=9)))
    assert told.endswith("100% [51%, 100%] of 4 held-out prompts rated apart, too few to tell")
    assert "none of 7 held-out answers" in str(
        doubt_of_reward("x", reported(chance=None, heldout=7))
    )


def test_reports_of_earlier_versions_are_doubted_by_their_accuracy() -> None:
    old = reported(accuracy=accurate(share(26, 48)), heldout=50)
    assert "54% [40%, 67%] of 48 held-out pairs" in str(doubt_of_reward("overall", old))
    shown = reported(accuracy=accurate(share(40, 48)), heldout=50)
    assert doubt_of_reward("overall", shown) is None
    assert "none of 50" in str(doubt_of_reward("overall", reported(heldout=50)))


def test_answers_that_tell_nothing_apart_are_doubted() -> None:
    assert doubt_of_feedback(told_by(holds={"comparison": {"turned": 80}})) == (
        "no answer tells two samples apart: 80 comparison answers: none decide a pair, "
        "80 turned with the order"
    )
    assert doubt_of_feedback(told_by(holds={"comparison": {"turned": 79, "decides": 1}})) is None
    assert doubt_of_feedback(told_by()) is None, "of an earlier version: not known"


@pytest.mark.parametrize(
    ("first", "decided", "told"),
    [(10, 10, "first in 10 of the 10"), (0, 10, "last in 10 of the 10"), (18, 20, "first in 18"),
     (17, 20, None), (5, 10, None), (5, 5, None), (0, 0, None)],
)  # fmt: skip
def test_a_judge_that_goes_by_the_order_is_doubted(
    first: int, decided: int, told: str | None
) -> None:
    held = {"comparison": {"decides": decided}} if decided else {}
    said = doubt_of_feedback(told_by(holds=held, order={"first": first, "decided": decided}))
    assert (said is None) if told is None else f"that it read {told}" in said


def test_doubts_stand_on_top_of_every_text(desk: Workspace) -> None:
    recipe = {"feedback": {"source": "judge", "gold": "sentiment"}}
    reward = RewardResult(
        rewards={"overall": ("model-1",)},
        snapshot="s",
        reports={"overall": reported(chance=None, heldout=9)},
    )
    desk.runs.start("run-1", "night", recipe, "1.2.3")
    snapshot = desk.snapshots.take([]).id
    told = told_by(holds={"comparison": {"tie": 80}}, snapshot=snapshot)
    for key, result in (
        ("feedback", told),
        ("reward", reward),
        ("evaluate", evaluated("gold", WINS["better"])),
    ):
        desk.stages.finish("run-1", f"round-1/{key}", result)
    page, text = render(gather(desk, "run-1")), summary(desk, "run-1")
    for doubt in (
        "no answer tells two samples apart: 80 comp",
        "is not shown to beat chance: none",
    ):
        assert text.index("is better than") < text.index(doubt) < text.index("KL  ")
        assert page.index("is better than") < page.index(doubt) < page.index("<h2>Round by round")
    doubt = "Doubt: the reward model is not shown to beat chance: none of 9"
    assert doubt in reward_lines(reward, {})


ORIGINS = {
    "teachers": "simulated annotators (3)",
    "people": "people (3)",
    "judge": "a judge, which is a language model (3)",
    "import:rows.jsonl": "the file rows.jsonl (3)",
}


def sample(model: str, prompt: Prompt, index: int) -> Sample:
    return Sample.of(prompt, Completion(f"{model} {index}."), model=model, index=index)


@pytest.mark.parametrize("origin", ORIGINS)
def test_the_page_says_who_answered(desk: Workspace, origin: str) -> None:
    prompt = Prompt.from_text("How is it?")
    samples = [sample("base", prompt, index) for index in range(4)]
    desk.samples.add(samples)
    entries = [
        Comparison(annotator="x", origin=origin, samples=(samples[0].id, s.id), choice="a")
        for s in samples[1:]
    ]
    desk.journal.add(entries)
    source = origin if origin in SOURCES else "people"
    recipe = {"feedback": {"source": source, "gold": "sentiment"}}
    desk.runs.start("run-1", "night", recipe, "1.2.3")
    told = told_by(snapshot=desk.snapshots.take([entry.id for entry in entries]).id)
    desk.stages.finish("run-1", "round-1/feedback", told)
    page = render(gather(desk, "run-1"))
    assert f"Answers came from {ORIGINS[origin]}." in page
    others = [words for name, words in ORIGINS.items() if name != origin and words in page]
    assert not others
    assert ("There is no gold measure" in page) == (origin != "teachers")


def voting(desk: Workspace) -> dict[str, Prompt]:
    """Two models, the policy trained on one answer, and prompts of every sort."""
    prompts = {
        "heldout": Prompt.from_text("Held out?", source="p.txt", split="heldout"),
        "asked": Prompt.from_text("Asked?", source="playground"),
        "again": Prompt.from_text("Again?", source="playground"),
        "learned": Prompt.from_text("Learned?", source="playground"),
        "trained": Prompt.from_text("Trained?", source="p.txt"),
    }
    for prompt in prompts.values():
        desk.samples.add([sample(m, prompt, i) for m in ("base", "policy") for i in (0, 1)])
    first, second = (sample("base", prompts["learned"], i) for i in (0, 1))
    entry = Comparison(annotator="mia", samples=(first.id, second.id), choice="a")
    desk.journal.add([entry])
    snapshot = desk.snapshots.take([entry.id]).id
    for name, kind, parents in (("base", "base", ()), ("policy", "policy", ("base",))):
        record = ModelRecord(id=name, name=name, stage=kind, path=name, parents=parents)
        shaped = {"snapshot": snapshot} if kind == "policy" else {}
        desk.models.register(record.model_copy(update=shaped))
    return prompts


def vote(prompt: Prompt, choice: str, *, annotator: str = "mia", turned: bool = False, **more: Any):
    pair = [sample("policy", prompt, 0).id, sample("base", prompt, 1).id]
    samples = tuple(pair[::-1] if turned else pair)
    return Comparison(annotator=annotator, samples=samples, choice=choice, **more)


def test_people_who_compare_the_two_models_judge_them(desk: Workspace) -> None:
    """On what nothing was trained on; a prompt counts once, and nobody but people does."""
    prompts = voting(desk)
    recipe = {"feedback": {"source": "people", "gold": "sentiment"}}
    desk.runs.start("run-1", "night", recipe, "1.2.3")
    desk.stages.finish("run-1", "round-1/evaluate", evaluated(None, None))
    assert "Nobody has judged the policy of round 1 yet" in summary(desk, "run-1")
    votes = [
        vote(prompts["heldout"], "a"),
        vote(prompts["asked"], "a", turned=True),  # against the policy
        vote(prompts["asked"], "a", annotator="noah"),
        vote(prompts["again"], "tie"),
        vote(prompts["learned"], "a"),
        vote(prompts["trained"], "a"),
        vote(prompts["again"], "a", annotator="judge:m", origin="judge"),
    ]
    desk.journal.add(votes)
    evaluation = gather(desk, "run-1").rounds[0].evaluation
    assert evaluation is not None
    assert evaluation.judged_by == "people"
    assert evaluation.people == PeopleCounts(votes=4, prompts=3, annotators=2)
    expected = wilson(1 + 0.5 + 0.5, 3)
    assert evaluation.win_rate == KeptInterval(
        value=expected.value, low=expected.low, high=expected.high
    )
    assert "by 2 people: it wins 66.7% of 3 prompts" in summary(desk, "run-1")


def test_people_do_not_take_the_place_of_gold(desk: Workspace) -> None:
    prompts = voting(desk)
    desk.journal.add([vote(prompts["heldout"], "b")])
    recipe = {"feedback": {"source": "teachers", "gold": "sentiment"}}
    desk.runs.start("run-1", "night", recipe, "1.2.3")
    desk.stages.finish("run-1", "round-1/evaluate", evaluated("gold", WINS["better"]))
    assert "by the gold measure: it wins 83.0%" in summary(desk, "run-1")
