"""An entry that gives way to another, both or neither; and all that somebody ever said."""

import pytest
from store_helpers import completion_sample

from backflip.errors import WorkspaceError
from backflip.records import Sample
from backflip.records.feedback import Critique, GoodBad
from backflip.workspace import Task, Workspace

IDS = [completion_sample(n, prompt=n // 4).id for n in range(8)]
OPEN = Critique(annotator="mia", sample=IDS[0], text="Too short.")
READ = OPEN.model_copy(update={"level": 2, "key": "read"})


def test_the_new_entry_stands_where_the_old_one_stood(
    workspace: Workspace, samples: list[Sample]
) -> None:
    journal = workspace.journal
    other = GoodBad(annotator="mia", sample=IDS[1], good=True)
    journal.add([OPEN, other], run="run-1", round=2)
    assert journal.replace(OPEN.id, READ, "level 2", by="judge:m")
    assert journal.active() == [other, READ]
    assert journal.active(run="run-1", rounds=2, annotator="mia") == [other, READ]
    said, taken_back = journal.history(OPEN.id)
    assert said.entry == OPEN, "nothing is lost"
    assert (taken_back.annotator, taken_back.reason) == ("judge:m", "level 2")


def test_an_entry_gives_way_once(workspace: Workspace, samples: list[Sample]) -> None:
    """Of two processes that read the same critique, one puts its reading there."""
    journal = workspace.journal
    journal.add([OPEN])
    later = READ.model_copy(update={"level": 4})
    assert journal.replace(OPEN.id, READ, "level 2", by="judge:m")
    assert not journal.replace(OPEN.id, later, "level 4", by="judge:m")
    assert journal.active() == [READ]
    assert later.id not in journal.get([later.id])


def test_both_or_neither(workspace: Workspace, samples: list[Sample]) -> None:
    journal = workspace.journal
    journal.add([OPEN])
    strange = READ.model_copy(update={"sample": "sample-none"})
    with pytest.raises(WorkspaceError, match="sample-none"):
        journal.replace(OPEN.id, strange, "level 2", by="judge:m")
    assert journal.active() == [OPEN]
    with pytest.raises(WorkspaceError, match="no entry 'feedback-none'"):
        journal.replace("feedback-none", READ, "level 2", by="judge:m")
    assert journal.active() == [OPEN]


def test_who_undoes_the_answer_takes_the_new_entry_back(
    workspace: Workspace, samples: list[Sample]
) -> None:
    queue = workspace.queue
    queue.put("run-1", 1, [Task(kind="critique", sample_ids=(IDS[0],))])
    task = queue.next("mia")
    assert task is not None
    entry_id = queue.answer(task.id, "mia", OPEN)
    (old,) = workspace.journal.get([entry_id]).values()
    new = old.model_copy(update={"level": 2, "key": "read"})
    workspace.journal.replace(entry_id, new, "level 2", by="judge:m")
    assert workspace.journal.active() == [new]
    assert queue.undo("mia") is not None
    assert workspace.journal.active() == []


def test_all_that_somebody_ever_said(workspace: Workspace, samples: list[Sample]) -> None:
    journal = workspace.journal
    thumbs = [GoodBad(annotator="mia", sample=name, good=True) for name in IDS[:3]]
    journal.add([thumbs[0], GoodBad(annotator="ann", sample=IDS[0], good=False), *thumbs[1:]])
    journal.retract(thumbs[1].id, "a slip", by="mia")
    said = [entry.id for entry in thumbs]
    assert journal.said_by("mia") == said
    assert journal.retract_annotator("mia", "left", by="lea") == [said[0], said[2]]
    assert journal.retract_annotator("mia", "left", by="lea") == []
    assert journal.said_by("mia") == said
    with pytest.raises(WorkspaceError, match="no annotator 'eve'"):
        journal.said_by("eve")
