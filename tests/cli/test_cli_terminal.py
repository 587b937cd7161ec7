"""In processes of their own: a run that waits for people, Ctrl-C, and a person who answers."""

import json
import re
from pathlib import Path

from terminal_person import Process, at_terminal

from backflip.records.plan import FEEDBACK, SAMPLE
from backflip.workspace import Workspace

PEOPLE = ("run", "point.toml", "feedback=people", "feedback.prompts=8", "reward.heldout=0.4")


def test_a_run_waits_for_people_through_ctrl_c(desk: Path, tmp_path: Path) -> None:
    """Stopped while it waits, answered meanwhile, started again, it ends with their answers."""
    folder = str(tmp_path / "people")
    command = (*PEOPLE, "-w", folder, "--json")
    first = Process(*command, errors=tmp_path / "first")
    first.wait_for("Waiting for people: 8 items")
    assert f"backflip label --terminal --workspace {folder}" in first.said
    first.interrupt()
    code, out = first.end()
    assert code == 130
    assert "the same command goes on" in json.loads(out)["error"]["what"]
    assert "Traceback" not in first.said
    with Workspace.open(folder) as workspace:
        (run,) = workspace.runs.all()
        assert run.status == "stopped"
        shown = workspace.stages.result(run.id, "round-1/sample", SAMPLE)

    def keys(question: str, number: int) -> str:
        """Two answers, the second taken back and given again otherwise; one skip; then leave."""
        return ["1", "t", "u", "7", "s", "q"][number]

    label = ("label", "--terminal", "--annotator", "mia", "-w", folder)
    code, screen = at_terminal(*label, keys=keys)
    assert code == 0
    assert "Taken back." in screen
    assert "mia: 0 answers given so far, 8 questions open for you." in screen
    assert "2 answers given in this sitting, 2 in all." in screen
    assert "backflip/Point-v0: 6 steps" in screen
    with Workspace.open(folder) as workspace:
        entries = workspace.journal.active(annotator="mia")
        assert [abs(entry.strength) for entry in entries] == [3, 3]

    second = Process(*command, errors=tmp_path / "second")
    second.wait_for("Waiting for people")
    code, out = at_terminal(*label, "--json", keys=lambda question, number: "1")
    assert code == 0
    told = json.loads(re.findall(r"\{.*?\}", out, flags=re.DOTALL)[-1])
    assert told == {"answers": 5, "in_all": 7, "annotator": "mia"}
    assert "mia: 2 answers given so far, 5 questions open for you." in out
    code, out = second.end()
    assert code == 0, second.said
    result = json.loads(out)
    with Workspace.open(folder) as workspace:
        assert workspace.stages.result(run.id, "round-1/sample", SAMPLE) == shown, "not drawn again"
        told = workspace.stages.result(run.id, "round-1/feedback", FEEDBACK)
        assert workspace.runs.get(run.id).status == "finished"
    assert told is not None
    assert (told.new_entries, told.skipped) == (7, 1)
    assert result["rounds"][0]["judged_by"] is None, "nobody knows a gold measure"


def test_ctrl_c_leaves_a_talk_without_ado(text_stages: object) -> None:
    """And what a model says comes before the next question."""

    def keys(question: str, number: int) -> str:
        return "How is it?\r" if number == 0 else "\x03"

    code, screen = at_terminal(
        "chat", "tiny/sft", "-w", "text", "--max-tokens", "4", keys=keys, until="> "
    )
    assert code == 130
    assert "Traceback" not in screen
    assert "goes on" not in screen
    assert len(screen.split("> ")) == 3
