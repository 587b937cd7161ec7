"""Whole runs in which nothing can be learned, or nobody judges: they stop, or say so on top."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from judge_helpers import Judging, judged
from loop_helpers import agent_recipe, make_run
from people_helpers import answer_all, people, under_way

from backflip.errors import TrainingError
from backflip.evaluation.report import summary, write_report
from backflip.loop import stages
from backflip.records.plan import REWARD
from backflip.workspace import Workspace

CLAIM = re.compile(r"is better than|is worse than|cannot be told apart|\bwins\b", re.I)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def always(folder: Path, judge: type[Judging], verdict: str, **change: Any) -> dict[str, Any]:
    """A recipe with a judge that always says the same."""
    judge.always = verdict
    data = judged(folder, judge)
    data["feedback"]["judge"] |= change
    return data


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        ("A", "10 comparison answers: none decide a pair, 10 turned with the order"),
        ("TIE", "10 comparison answers: none decide a pair, 10 tied"),
        ("BOTH_BAD", "10 comparison answers: none decide a pair, 10 both bad"),
    ],
)
def test_a_run_whose_judge_tells_nothing_apart_stops_before_a_reward_is_trained(
    judge: type[Judging], desk: Workspace, tmp_path: Path, verdict: str, told: str
):
    """However often it is started again; and the report of what there is says why."""
    data = always(tmp_path, judge, verdict, both_orders=True)
    for _ in range(2):
        run, _ = make_run(desk, data)
        with pytest.raises(TrainingError, match="no answer tells two samples apart") as caught:
            run.go()
        assert told in str(caught.value)
        assert "another judge" in caught.value.hint
    assert len(judge.asked) == 20
    assert {model.stage for model in desk.models.all()} == {"base", "pretrain"}
    page = write_report(desk, run.id).read_text(encoding="utf-8")
    for text in (summary(desk, run.id), page):
        assert f"Round 1: no answer tells two samples apart: {told}." in text
        assert not CLAIM.search(text)


def test_what_a_round_holds_is_counted_alike_after_a_stop(
    judge: type[Judging], desk: Workspace, tmp_path: Path
):
    """What turned with the order is told from the journal, not from what this process asked."""
    data = always(tmp_path, judge, "A", both_orders=True)
    judge.fail = staticmethod(lambda number: number > 8)
    run, reporter = make_run(desk, data)
    with run.alone():
        run.begin()
        start = run.stage("pretrain", stages.pretrain, run.stage("start", stages.start))
        asked = run.stage("round-1/sample", stages.sample, start)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run.workspace.snapshots, "take", stop)
            with pytest.raises(KeyboardInterrupt):
                run.stage("round-1/feedback", stages.feedback, asked)
        judge.fail = staticmethod(lambda number: False)
        told = run.stage("round-1/feedback", stages.feedback, asked)
    assert told.holds == {"comparison": {"turned": 10}}
    assert len(judge.asked) == 8 + 6 + 2 * 6  # the failures are asked again, one order at a time
    assert "10 turned with the order" in reporter.said[-1]
    assert "no answer tells two samples apart" in reporter.warnings[-1]


def stop(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_judge_that_goes_by_the_place_alone_is_not_believed(
    judge: type[Judging], desk: Workspace, tmp_path: Path
):
    """Asked in one order its answers decide pairs, and are of nothing: the report says so."""
    data = always(tmp_path, judge, "A", both_orders=False)
    run, reporter = make_run(desk, data)
    (result,) = run.go()
    assert result.judged_by == "judge"
    (doubt,) = [w for w in reporter.warnings if "is not shown to beat chance" in w]
    text = summary(desk, run.id)
    top = text.split("Round 1\n")[0]
    assert doubt.removeprefix("round-1/reward: ") in top
    (doubt,) = [w for w in reporter.warnings if "that it read first in" in w]
    assert doubt.removeprefix("round-1/feedback: ").rstrip(".") in top
    assert "is better than" not in text


def test_the_judge_says_who_is_better_and_the_report_shows_its_words(
    judge: type[Judging], desk: Workspace, tmp_path: Path
):
    """Its answers on held-out prompts are no feedback: nothing can ever be trained on them."""
    run, _ = make_run(desk, judged(tmp_path, judge))
    (result,) = run.go()
    samples = desk.samples.get(
        [
            getattr(example, side).sample
            for example in result.examples
            for side in ("before", "after")
        ]
    )
    for example in result.examples:
        old, new = (samples[getattr(example, side).sample].text for side in ("before", "after"))
        outcome = example.judge.outcome
        if old == new:
            assert outcome == "same"
        elif old.count("e") != new.count("e"):
            assert outcome == ("policy" if new.count("e") > old.count("e") else "start")
    told = result.judge
    points = told.policy + 0.5 * (told.pairs - told.policy - told.start)
    assert result.win_rate.value == pytest.approx(points / told.pairs)
    assert (told.name, told.pairs, told.prompts) == ("judge:m", 4, 4)
    heldout = {p.id for p in run.domain.prompts() if p.split == "heldout"}
    entries = desk.journal.active()
    asked = desk.samples.get({name for entry in entries for name in entry.sample_ids})
    assert not heldout & {sample.prompt_id for sample in asked.values()}
    page = write_report(desk, run.id).read_text(encoding="utf-8")
    assert "by the judge m: it wins" in page
    assert "The judge: " in page
    assert "a judge, which is a language model (10)" in page


def test_guessing_teachers_give_a_reward_that_is_doubted_on_top(desk: Workspace):
    teachers = [{"name": "coin", "beta": 0.0}]
    feedback = {"gold": "environment", "prompts": 14, "teachers": teachers}
    run, reporter = make_run(desk, agent_recipe(feedback=feedback, loop={"rounds": 1}))
    (result,) = run.go()
    assert result.judged_by == "gold"
    (doubt,) = [w for w in reporter.warnings if "is not shown to beat chance" in w]
    top = summary(desk, run.id).split("\nRound 1\n")[0]
    assert doubt.removeprefix("round-1/reward: ") in top
    assert "by the gold measure" in top


@pytest.mark.parametrize("algorithm", ["ppo", "dpo"])
def test_where_people_judge_no_text_says_that_it_is_better(desk: Workspace, algorithm: str):
    data = people() | {"loop": {"rounds": 1}}
    if algorithm == "dpo":
        data["algorithm"] = {"type": "dpo", "batch_size": 4}
    with under_way(desk, data) as outcome:
        answer_all(desk, ("mia",), outcome)
    (result,) = outcome["results"]
    assert result.judged_by is None
    run = outcome["run"]
    page = write_report(desk, run.id).read_text(encoding="utf-8")
    for text in (summary(desk, run.id), page):
        assert "Nobody has judged the policy of round 1 yet" in text
        assert ("the reward model that was optimised prefers" in text) == (algorithm == "ppo")
        assert not CLAIM.search(text)
    assert "people (8)" in page


@pytest.mark.parametrize("kinds", [["rating"], ["good_bad"]])
def test_answers_on_single_samples_are_measured_within_a_prompt(desk: Workspace, kinds: list[str]):
    """They decide no pair, and are no reason to stop."""
    feedback = {"gold": "environment", "prompts": 14, "kinds": kinds, "samples_per_prompt": 3}
    data = agent_recipe(feedback=feedback, loop={"rounds": 1})
    data["reward"]["heldout"] = 0.5
    run, _ = make_run(desk, data)
    run.go()
    found = desk.stages.result(run.id, "round-1/reward", REWARD)
    assert found is not None
    report = found.reports["overall"]
    assert report.accuracy is None
    assert report.chance.of == "prompts rated apart"
    assert 1 <= report.chance.count <= 14
    assert "held-out prompts rated apart" in summary(desk, run.id)


@pytest.mark.parametrize("algorithm", ["ppo", "dpo"])
def test_where_everybody_skips_the_run_says_so_and_not_that_an_axis_is_wrong(
    desk: Workspace, algorithm: str
):
    teachers = [{"name": "shy", "skips": 1.0}]
    feedback = {"gold": "environment", "prompts": 5, "overlap": 1, "teachers": teachers}
    data = agent_recipe(feedback=feedback, loop={"rounds": 1})
    if algorithm == "dpo":
        data["algorithm"] = {"type": "dpo", "batch_size": 4}
    run, _ = make_run(desk, data)
    with pytest.raises(TrainingError, match=r"nobody answered.*: all 5 questions were") as caught:
        run.go()
    assert caught.value.where == "feedback"
    assert "other annotators" in caught.value.hint
