"""Runs that wait for others: people at the queue, and a judge behind an address."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from loop_helpers import agent_recipe, make_run, remains, text_recipe

from backflip.errors import JudgeError
from backflip.feedback.kinds import Comparison, Critique, Rating
from backflip.feedback.store import Workspace, lineage


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def people(**change: Any) -> dict[str, Any]:
    feedback = {"source": "people", "gold": "environment", "prompts": 8, "poll_seconds": 0.01}
    return agent_recipe(feedback={**feedback, **change}, loop={"rounds": 2, "checkpoint_every": 2})


@contextmanager
def under_way(workspace: Workspace, data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A run in a thread of its own; what it returned or raised is in the dictionary at the end."""
    run, reporter = make_run(workspace, data)
    outcome: dict[str, Any] = {"run": run, "reporter": reporter}

    def work() -> None:
        try:
            outcome["results"] = run.go()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield outcome
    finally:
        thread.join(60)
        assert not thread.is_alive()


def preference(workspace: Workspace, task: Any) -> Any:
    """What a person says: the clip with more reward, or of one its level or as many "!"."""
    samples = workspace.samples.get(task.sample_ids)
    golds = [float(samples[i].clip.rewards.sum()) for i in task.sample_ids]
    level = min(max(int(6 + golds[0] / 10), 1), 5)
    if task.kind == "critique":
        text = f"Well{'!' * level}"
        return Critique(annotator=task.annotator, sample=task.sample_ids[0], text=text)
    if task.kind == "rating":
        return Rating(annotator=task.annotator, sample=task.sample_ids[0], level=level)
    choice = "a" if golds[0] > golds[1] else "b"
    return Comparison(annotator=task.annotator, samples=task.sample_ids, choice=choice)


def answer_all(workspace: Workspace, names: tuple[str, ...], outcome: dict[str, Any]) -> int:
    """Answer whatever is asked until the run is over."""
    given = 0
    while "results" not in outcome and "error" not in outcome:
        tasks = {name: workspace.queue.next(name) for name in names}
        for name, task in tasks.items():
            if task is not None:
                workspace.queue.answer(task.id, name, preference(workspace, task))
                given += 1
        if not any(tasks.values()):
            time.sleep(0.05)  # SQLite has one writer: who asks without pause shuts others out
    return given


def test_a_run_waits_for_people_and_learns_from_them(workspace: Workspace):
    names = ("mia", "noah", "zoe")
    with under_way(workspace, people(overlap=2, kinds=["comparison", "rating"])) as outcome:
        given = answer_all(workspace, names, outcome)
    assert "error" not in outcome
    (first, second) = outcome["reporter"].warnings  # one a round, before anybody answers
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
    # Nobody knows the gold of a person, so the reward model judges, and it says so.
    assert [r["judged_by"] for r in results] == ["reward", "reward"]
    assert "gold" not in results[0]["means"]
    behind = lineage(workspace, results[-1]["model"])
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
    (stage,) = [s for s in workspace.stages.all(outcome["run"].id) if "feedback" in s.key]
    assert stage.result["skipped"] == 2
    assert stage.result["entries"] == stage.result["new_entries"] == 6
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
    assert lineage(workspace, result["model"]).annotators == {"mia": 8}


def test_dpo_on_people_has_no_one_to_judge_by(workspace: Workspace):
    algorithm = {"type": "dpo", "batch_size": 4}
    data = people() | {"loop": {"rounds": 1}, "algorithm": algorithm}
    with under_way(workspace, data) as outcome:
        answer_all(workspace, ("mia",), outcome)
    (result,) = outcome["results"]
    assert result["judged_by"] is None
    assert "win_rate" not in result
    assert set(result["means"]) == {"length", "truncated"}


class Judging(BaseHTTPRequestHandler):
    """Prefers the reply with more letters "e", reads as many levels as a critique has "!", and
    fails when it is told to.
    """

    asked: list[str]
    fail: Callable[[int], bool]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][1]["content"]
        type(self).asked.append(text)
        if type(self).fail(len(type(self).asked)):
            self.send_error(400)
            return
        if "[CRITIQUE " in text:
            verdict = str(text.split("[CRITIQUE ")[1].split("[END OF")[0].count("!"))
        else:
            first, second = (text.split(f"[REPLY {x} ")[1].split("[END OF")[0] for x in "AB")
            verdict = "A" if first.count("e") > second.count("e") else "B"
        raw = json.dumps({"choices": [{"message": {"content": f"VERDICT: {verdict}"}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def judge() -> Iterator[type[Judging]]:
    handler = type("Handler", (Judging,), {"asked": [], "fail": staticmethod(lambda n: False)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    handler.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


def judged(folder: Path, judge: type[Judging], **change: Any) -> dict[str, Any]:
    settings = {"url": judge.url, "model": "m", "parallel": 1, "retries": 0, "both_orders": False}
    feedback = {"source": "judge", "prompts": 10, "judge": settings, **change}
    return text_recipe(folder, sft=None, feedback=feedback)


def test_a_judge_is_asked_about_each_pair_once_however_often_the_run_is_stopped(
    judge: type[Judging], tmp_path: Path
):
    left = []
    for name in ("straight", "stopped"):
        judge.asked.clear()
        with Workspace.create(tmp_path / name) as workspace:
            data = judged(tmp_path, judge)
            if name == "stopped":
                add = workspace.journal.add
                calls = []

                class Stop(BaseException):
                    pass

                def once(entries, add=add, calls=calls, stop=Stop, **fields):
                    add(entries, **fields)
                    calls.append(1)
                    if len(calls) == 4:
                        raise stop

                workspace.journal.add = once
                with pytest.raises(Stop):
                    make_run(workspace, data)[0].go()
                workspace.journal.add = add
            run, _ = make_run(workspace, data)
            run.go()
            left.append(remains(workspace, run))
            assert len(left[-1]["feedback"]) == 10
            # No request was under way while an answer was kept: none had to be sent again.
            assert len(judge.asked) == 10
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
        stages = {s.key: s.result for s in workspace.stages.all(run.id)}
        assert stages["round-1/feedback"]["skipped"] == len(reporter.warnings) == 3
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
    told = workspace.stages.result(run.id, "round-1/feedback")
    assert told["new_entries"] == told["entries"] == 8 + 16
    learned = {e.id for e in workspace.snapshots.rows(told["snapshot"])}
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
    trained = lineage(workspace, outcome["results"][-1]["model"])
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
    assert len(reporter.warnings) == 4
    assert all("critique" in warning for warning in reporter.warnings)
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
    assert outcome["reporter"].warnings == []
    rewards = workspace.stages.result(outcome["run"].id, "round-1/reward")
    assert set(rewards["rewards"]) == {"smooth", "overall"}


def test_a_judge_is_asked_about_each_axis_by_its_name(judge: type[Judging], tmp_path: Path):
    data = judged(tmp_path, judge)
    data["reward"] |= {"axes": ["overall", "polite"]}
    with Workspace.create(tmp_path / "w") as workspace:
        run, _ = make_run(workspace, data)
        run.go()
        axes = Counter(entry.axis for entry in workspace.journal.active())
        assert axes == {"overall": 10, "polite": 10}
        assert len(judge.asked) == 20
        assert sum("polite" in text for text in judge.asked) == 10
        assert sum("more helpful, honest" in text for text in judge.asked) == 10
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
