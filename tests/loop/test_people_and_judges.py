"""Runs that wait for others: people at the queue, and a judge behind an address."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from judge_helpers import Judging, judged
from loop_helpers import make_run, remains, warned
from people_helpers import answer_all, people, preference, under_way

from backflip.errors import JudgeError
from backflip.records.feedback import Critique
from backflip.records.plan import FEEDBACK, REWARD
from backflip.workspace import Workspace, lineage
from stored_results import stored


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def test_a_run_waits_for_people_and_learns_from_them(workspace: Workspace):
    names = ("mia", "noah", "zoe")
    with under_way(workspace, people(overlap=2, kinds=["comparison", "rating"])) as outcome:
        given = answer_all(workspace, names, outcome)
    assert "error" not in outcome
    (first, second) = warned(outcome["reporter"])  # one a round, before anybody answers
    assert "it takes 2 different people" in first
    assert first.startswith("round-1/feedback")
    assert second.startswith("round-2/feedback")
    run, results = outcome["run"], outcome["results"]
    # 8 prompts with a pair each, and two clips rated, twice over, in two rounds.
    assert given == 2 * 2 * (8 + 16)
    journal = workspace.journal.active()
    assert len(journal) == given
    assert {e.origin for e in journal} == {"people"}
    assert all(sorted(e.shown) == [0, 1] for e in journal if e.kind == "comparison")
    asked = Counter((e.kind, e.sample_ids) for e in journal)
    assert set(asked.values()) == {2}
    for number in (1, 2):
        assert workspace.queue.progress(run.id, number).finished
    # Nobody knows the gold of a person, and the reward that was optimised is no judge.
    assert [r.judged_by for r in results] == [None, None]
    assert [r.model_fields_set & {"win_rate", "reward_prefers"} for r in results] == [
        {"reward_prefers"}
    ] * 2
    assert "gold" not in results[0].means
    behind = lineage(workspace, results[-1].model)
    assert set(behind.annotators) == set(names)


def test_skips_count_as_asked_and_undone_answers_do_not_count(workspace: Workspace):
    data = people() | {"loop": {"rounds": 1}}
    with under_way(workspace, data) as outcome:
        skipped = undone = 0
        while "results" not in outcome and "error" not in outcome:
            task = workspace.queue.next("mia")
            if task is None:
                time.sleep(0.05)
                continue
            if skipped < 2:
                workspace.queue.skip(task.id, "mia", "cannot tell")
                skipped += 1
                continue
            workspace.queue.answer(task.id, "mia", preference(workspace, task))
            if undone < 1:
                again = workspace.queue.undo("mia")
                entry = preference(workspace, again).model_copy(update={"choice": "tie"})
                workspace.queue.answer(again.id, "mia", entry)
                undone += 1
    assert "error" not in outcome
    (told,) = workspace.stages.results(outcome["run"].id, FEEDBACK).values()
    assert told.skipped == 2
    assert told.entries == told.new_entries == 6
    choices = Counter(e.choice for e in workspace.journal.active())
    assert choices["tie"] == 1


def test_answers_given_while_nobody_waited_are_there_when_it_goes_on(workspace: Workspace):
    """The run ends while it waits; people go on answering; the run takes up what they said."""
    data = people() | {"loop": {"rounds": 1}}
    run, reporter = make_run(workspace, data)

    class Stop(BaseException):
        pass

    reporter.say = lambda text: (_ for _ in ()).throw(Stop)
    with pytest.raises(Stop):
        run.go()
    while task := workspace.queue.next("mia"):
        workspace.queue.answer(task.id, "mia", preference(workspace, task))
    again, _ = make_run(workspace, data)
    (result,) = again.go()
    assert len(workspace.journal.active()) == 8
    assert lineage(workspace, result.model).annotators == {"mia": 8}


def test_dpo_on_people_has_no_one_to_judge_by(workspace: Workspace):
    algorithm = {"type": "dpo", "batch_size": 4}
    data = people() | {"loop": {"rounds": 1}, "algorithm": algorithm}
    with under_way(workspace, data) as outcome:
        answer_all(workspace, ("mia",), outcome)
    (result,) = outcome["results"]
    assert result.judged_by is None
    assert result.win_rate is None
    assert result.reward_prefers is None
    assert set(result.means) == {"length", "truncated"}


def stop_after(
    of: Any,
    method: str,
    number: int,
    counts: Callable[..., bool],
    workspace: Workspace,
    data: dict[str, Any],
) -> None:
    """Run, and stop right after a method has kept so many of what counts."""
    keep = getattr(of, method)
    kept: list[int] = []

    class Stop(BaseException):
        pass

    def once(*args: Any, **fields: Any) -> Any:
        found = keep(*args, **fields)
        kept.extend([1] * counts(*args))
        if len(kept) == number:
            raise Stop
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of, method, once)
        with pytest.raises(Stop):
            make_run(workspace, data)[0].go()


def test_a_judge_is_asked_about_each_pair_once_however_often_the_run_is_stopped(
    judge: type[Judging], tmp_path: Path
):
    left = []
    for name in ("straight", "stopped"):
        judge.asked.clear()
        with Workspace.create(tmp_path / name) as workspace:
            data = judged(tmp_path, judge)
            if name == "stopped":  # while it answers, and while it says who is better
                stop_after(workspace.journal, "add", 4, lambda entries: True, workspace, data)
                about = lambda run, key, result: "/judge/" in key  # noqa: E731
                stop_after(workspace.stages, "finish", 2, about, workspace, data)
            run, _ = make_run(workspace, data)
            run.go()
            left.append(remains(workspace, run))
            assert len(left[-1]["feedback"]) == 10
            # No request was under way while an answer was kept: none had to be sent again.
            assert len(judge.asked) == 10 + 4
            told = left[-1]["results"]["round-1/evaluate"]["judge"]
            assert (told["pairs"], told["unanswered"]) == (4, 0)
    said = [
        {key: result for key, result in one["results"].items() if "/evaluate" in key}
        for one in left
    ]
    assert said[0] == said[1]
    assert len(said[0]) == 1 + 4
    assert {e["origin"] for e in left[0]["feedback"]} == {"judge"}
    assert left[0]["weights"] == left[1]["weights"]
    said = [[{**entry, "seconds": None} for entry in one["feedback"]] for one in left]
    assert said[0] == said[1]


def test_a_judge_that_fails_on_some_pairs_is_warned_of_and_on_all_is_an_error(
    judge: type[Judging], tmp_path: Path
):
    judge.fail = staticmethod(lambda number: number % 3 == 0)
    with Workspace.create(tmp_path / "some") as workspace:
        run, reporter = make_run(workspace, judged(tmp_path, judge))
        run.go()
        stages = stored(workspace, run.id)
        told = [w for w in warned(reporter) if not w.startswith("round-1/evaluate")]
        assert stages["round-1/feedback"]["skipped"] == len(told) == 3
        assert stages["round-1/feedback"]["new_entries"] == 7
    judge.fail = staticmethod(lambda number: True)
    with Workspace.create(tmp_path / "all") as workspace:
        run, _ = make_run(workspace, judged(tmp_path, judge))
        with pytest.raises(JudgeError):
            run.go()


def criticised(judge: type[Judging] | None, **change: Any) -> dict[str, Any]:
    """A round in which people compare and write what they think, and give no levels."""
    settings = None if judge is None else {"url": judge.url, "model": "m", "retries": 0, **change}
    data = people(kinds=["comparison", "critique"], samples_per_prompt=2, judge=settings)
    return data | {"loop": {"rounds": 1}}


def critiques(workspace: Workspace) -> list[Critique]:
    return [e for e in workspace.journal.active(kinds="critique") if isinstance(e, Critique)]


def test_a_judge_reads_the_levels_of_what_people_wrote(judge: type[Judging], workspace: Workspace):
    with under_way(workspace, criticised(judge)) as outcome:
        answer_all(workspace, ("mia", "noah"), outcome)
    assert "error" not in outcome
    run, found = outcome["run"], critiques(workspace)
    assert len(found) == len(judge.asked) == 16
    assert all(entry.level == entry.text.count("!") for entry in found)
    assert {(e.annotator, e.origin) for e in found} <= {("mia", "people"), ("noah", "people")}
    told = workspace.stages.result(run.id, "round-1/feedback", FEEDBACK)
    assert told is not None
    assert told.new_entries == told.entries == 8 + 16
    learned = {e.id for e in workspace.snapshots.rows(told.snapshot)}
    assert {e.id for e in found} <= learned
    # What was said stays as it was said, and says who read it.
    for entry in found:
        old_id = entry.key.removesuffix(" read by judge:m")
        said, taken_back = workspace.journal.history(old_id)
        assert (said.entry.text, said.entry.level) == (entry.text, None)
        assert (taken_back.annotator, taken_back.reason) == (
            "judge:m",
            f"judge:m read level {entry.level} from it",
        )
    groups = {a.name: a.group for a in workspace.annotators.all()}
    assert groups == {"mia": "people", "noah": "people", "judge:m": "judge"}
    trained = lineage(workspace, outcome["results"][-1].model)
    assert {e.id for e in found} <= {e.id for e in trained.all_entries}


def test_without_a_judge_nobody_reads_them(workspace: Workspace):
    with under_way(workspace, criticised(None)) as outcome:
        answer_all(workspace, ("mia",), outcome)
    assert "error" not in outcome
    assert {entry.level for entry in critiques(workspace)} == {None}


def test_a_judge_that_reads_some_is_warned_of_and_goes_on_with_the_rest(
    judge: type[Judging], workspace: Workspace
):
    """None read is an error; the run goes on from it, and asks only for what it does not have."""
    judge.fail = staticmethod(lambda number: True)
    data = criticised(judge, parallel=1)
    with under_way(workspace, data) as outcome:
        answer_all(workspace, ("mia",), outcome)
    assert isinstance(outcome["error"], JudgeError)
    assert {entry.level for entry in critiques(workspace)} == {None}
    judge.asked.clear()
    judge.fail = staticmethod(lambda number: number % 4 == 0)
    run, reporter = make_run(workspace, data)
    run.go()
    assert len(judge.asked) == 16
    assert len(warned(reporter)) == 4
    assert all("critique" in warning for warning in warned(reporter))
    levels = [entry.level for entry in critiques(workspace)]
    assert (len(levels), levels.count(None)) == (16, 4)
    asked = len(judge.asked)
    judge.fail = staticmethod(lambda number: False)
    feedback = data["feedback"] | {"use": "workspace", "source": "teachers", "teachers": [{}]}
    other, _ = make_run(workspace, data | {"feedback": {**feedback, "kinds": ["comparison"]}})
    other.go()
    assert len(judge.asked) == asked + 4, "what has a level is not read again"
    assert all(entry.level == entry.text.count("!") for entry in critiques(workspace))


def test_people_are_asked_on_each_axis_and_one_person_is_enough(workspace: Workspace):
    data = people(prompts=6) | {"loop": {"rounds": 1}}
    data["reward"] |= {"axes": ["smooth", "overall"]}
    said: list[str] = []
    with under_way(workspace, data) as outcome:
        while "results" not in outcome and "error" not in outcome:
            task = workspace.queue.next("mia")
            if task is None:
                time.sleep(0.05)
                continue
            said.append(task.axis)
            entry = preference(workspace, task).model_copy(update={"axis": task.axis})
            workspace.queue.answer(task.id, "mia", entry)
    assert "error" not in outcome
    assert Counter(said) == {"smooth": 6, "overall": 6}
    assert warned(outcome["reporter"]) == []
    rewards = workspace.stages.result(outcome["run"].id, "round-1/reward", REWARD)
    assert rewards is not None
    assert set(rewards.rewards) == {"smooth", "overall"}


def test_a_judge_is_asked_about_each_axis_by_its_name(judge: type[Judging], tmp_path: Path):
    data = judged(tmp_path, judge)
    data["reward"] |= {"axes": ["overall", "polite"]}
    with Workspace.create(tmp_path / "w") as workspace:
        run, _ = make_run(workspace, data)
        run.go()
        axes = Counter(entry.axis for entry in workspace.journal.active())
        assert axes == {"overall": 10, "polite": 10}
        assert sum("polite" in text for text in judge.asked) == 10
        # The policies are held against each other by the criterion, where there are several axes.
        assert sum("more helpful, honest" in text for text in judge.asked) == 10 + 4
        annotators = [a.name for a in workspace.annotators.all()]
        assert annotators == ["judge:m"]


def test_training_goes_on_when_the_target_is_reached(workspace: Workspace):
    """What is open then is handed to nobody; what was begun counts, from the next round on."""
    data = people(target=0.5, project="Clips")
    workspace.servers.note("http://127.0.0.1:8000")
    with under_way(workspace, data) as outcome:
        held = None
        while held is None:
            held = workspace.queue.next("slow")
            time.sleep(0.05)
        answer_all(workspace, ("mia",), outcome)
    run = outcome["run"]
    first, second = workspace.batches.all()
    assert [project.name for project in workspace.projects.all()] == ["Clips"]
    assert {first.project, second.project} == {workspace.projects.ensure("Clips").id}
    assert (first.wanted, first.state) == (8, "closed")
    assert 4 <= first.done <= 7  # people are not stopped in the middle of a look at the counts
    said = "\n".join(outcome["reporter"].said)
    assert (
        "8 items, 1 answers each, until 50% are there. Answer at\n  http://127.0.0.1:8000/" in said
    )
    assert f"/projects/{first.project}/label" in said
    workspace.queue.answer(held.id, "slow", preference(workspace, held))
    assert workspace.queue.progress(run.id, 1).done == first.done + 1
    assert workspace.queue.next("late") is None
