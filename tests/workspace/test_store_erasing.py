"""What somebody wrote goes for good; that it was said, and what it shaped, can still be told."""

import json
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import sqlalchemy as sa
from backup_helpers import everything
from words_helpers import IDS, MIA, SPECIFIC, header, said, texts_with, typed, write

from backflip.errors import NotFoundError, WorkspaceError
from backflip.formats import export_file
from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import (
    ERASED,
    KINDS,
    Comparison,
    Correction,
    Critique,
    Demonstration,
    FeedbackBase,
    GoodBad,
    SafetyFlag,
)
from backflip.workspace import (
    ModelRecord,
    Task,
    User,
    Workspace,
    erase,
    forget_user,
    lineage,
    touched,
)
from backflip.workspace.database import schema
from backflip.workspace.labelling.replies import Wanted, count_replies, find_replies
from backflip.workspace.transfer.backup import write_backup
from backflip.workspace.transfer.restore import restore_backup


@pytest.fixture
def entries(workspace: Workspace, samples: list[Sample]) -> list[FeedbackBase]:
    """An entry of each kind by mia, one by bob, a snapshot of all, and a model made from it."""
    made = [said(workspace, "mia", MIA, kind, **fields) for kind, fields in SPECIFIC.items()]
    made.append(said(workspace, "bob", "what bob wrote", "critique", sample=IDS[0], text="Fine."))
    workspace.journal.add(made, run="run-1", round=1)
    snapshot = workspace.snapshots.take([entry.id for entry in made])
    workspace.models.register(
        ModelRecord(id="m", name="m", stage="reward", path="m", parents=(), snapshot=snapshot.id)
    )
    return made


def test_no_word_is_left_in_any_table(workspace: Workspace, entries: list[FeedbackBase]) -> None:
    tasks = [Task(kind="good_bad", sample_ids=(name,)) for name in IDS[:3]]
    workspace.queue.put("run-1", 1, tasks)
    for step in ("skipped", "answered", "undone"):
        task = workspace.queue.next("mia")
        assert task is not None
        vote = GoodBad(annotator="mia", sample=task.sample_ids[0], good=True, reason=MIA)
        beside = Critique(annotator="mia", sample=task.sample_ids[0], text=f"beside: {MIA}")
        if step == "skipped":
            workspace.queue.skip(task.id, "mia", f"skipped: {MIA}")
        else:
            workspace.queue.answer(task.id, "mia", vote, [beside])
        if step == "undone":
            workspace.queue.undo("mia")
            workspace.queue.save_draft(task.id, "mia", {"text": f"draft: {MIA}"})
    workspace.journal.retract(entries[-1].id, f"no, says {MIA}", by="mia")
    assert set(texts_with(workspace, MIA)) == {"journal", "samples", "assignments"}

    erased = erase(workspace, "mia", by="boss")
    assert texts_with(workspace, MIA) == []
    # The nine, and the answer with what was said beside it; the undone one was taken back before.
    assert len(erased.retracted) == len(KINDS) + 2
    assert (erased.texts, erased.texts_kept) == (2, 0)
    assert "reason: what bob wrote" in str(workspace.journal.get([entries[-1].id]))
    assert workspace.journal.history(entries[-1].id)[1].reason == ERASED
    held = workspace.queue.next("bob")
    assert held is not None
    assert held.sample_ids == (IDS[2],), "what mia held goes to others"
    assert workspace.queue.progress("run-1", 1).by_annotator == {"mia": 1}


def test_what_was_said_can_still_be_told(
    workspace: Workspace, entries: list[FeedbackBase], tmp_path: Path
) -> None:
    before = lineage(workspace, "m")
    ids = [entry.id for entry in entries]
    went_into = touched(workspace, ids[:1])
    erase(workspace, "mia", by="boss")
    after = lineage(workspace, "m")
    assert [entry.id for entry in after.all_entries] == ids
    assert after.annotators == before.annotators == {"mia": len(KINDS), "bob": 1}
    assert touched(workspace, [entry.id for entry in after.all_entries][:1]) == went_into
    found = workspace.snapshots.rows(str(after.snapshot))
    assert [entry.id for entry in found] == ids
    assert found[-1] == entries[-1]
    for old, new in zip(entries[:-1], found, strict=False):
        assert new == old.without_words().under(old.id)
        row, retraction = workspace.journal.history(old.id)
        assert (row.id, row.entry, retraction.reason) == (old.id, new, "forgotten")
        assert workspace.journal.get([old.id]) == {old.id: new}
    assert workspace.journal.active() == [entries[-1]]
    written = export_file(workspace, tmp_path / "all.jsonl", "backflip-jsonl")
    (row,) = (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()
    assert (written.rows, json.loads(row)["entry"]["annotator"]) == (1, "bob")
    # The old words, from a file of before, are not let in again as an entry.
    assert workspace.journal.add(entries) == []
    assert workspace.journal.active() == [entries[-1]]


def test_the_choice_stays(workspace: Workspace, entries: list[FeedbackBase]) -> None:
    erase(workspace, "mia", by="boss")
    found = workspace.journal.get(entry.id for entry in entries[:-1])
    for old in entries[:-1]:
        was, now = old.model_dump(), found[old.id].model_dump()
        changed = {name for name in was if was[name] != now[name]}
        assert changed == {"reason", "tags", "spans", *old.words}, was["kind"]
        assert [now[name] for name in old.words] == [ERASED] * len(old.words)
        assert now["tags"] == (ERASED, ERASED)
        assert now["spans"] == ({**was["spans"][0], "tag": ERASED},)


def test_every_text_of_a_kind_is_words_or_known_not_to_be() -> None:
    """A kind that gets a new text must say whether it is the annotator's own."""
    names = {"annotator", "axis", "origin", "key", "sample", "corrected", "over"}
    for kind, cls in KINDS.items():
        texts = {
            name
            for name, field in cls.model_fields.items()
            if field.annotation is str or str in get_args(field.annotation)
        }
        own = texts - names - {"tags", "samples"}
        assert own == set(cls.words), kind


STATEMENTS = [
    "UPDATE journal SET body = '{}' WHERE annotator = 'bob'",
    "UPDATE journal SET body = '{}'",
    "UPDATE journal SET body = '{}' WHERE annotator = 'boss'",
    "DELETE FROM journal WHERE annotator = 'mia'",
    "UPDATE journal SET body = '{}', annotator = 'bob' WHERE annotator = 'mia'",
    *(
        f"UPDATE journal SET body = '{{}}', {column} = {value} WHERE kind = 'rating'"  # noqa: S608
        for column, value in {
            "number": "number + 1000",
            "id": "'feedback-x'",
            "kind": "'good_bad'",
            "axis": "NULL",
            "origin": "'judge'",
            "run": "NULL",
            "round": "7",
            "retracts": "id",
            "created": "'2000'",
        }.items()
    ),
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_the_database_lets_nothing_else_be_changed(
    workspace: Workspace, entries: list[FeedbackBase], statement: str
) -> None:
    erase(workspace, "mia", by="boss")
    before = everything(workspace.database)
    with (
        pytest.raises(sa.exc.DBAPIError, match="is append-only"),
        workspace.database.engine.begin() as connection,
    ):
        connection.execute(sa.text(statement))
    assert everything(workspace.database) == before


def test_every_column_of_the_journal_is_tried() -> None:
    changes = [statement.partition("WHERE")[0] for statement in STATEMENTS]
    tried = {name for change in changes for name in re.findall(r"(\w+) = ", change)}
    assert tried == set(schema.journal.columns.keys())


def test_a_snapshot_still_notices_what_was_changed_beside_it(
    workspace: Workspace, entries: list[FeedbackBase]
) -> None:
    erase(workspace, "mia", by="boss")
    snapshot = str(workspace.models.get("m").snapshot)
    assert len(workspace.snapshots.rows(snapshot)) == len(entries)
    with workspace.database.engine.begin() as connection:
        if workspace.database.is_sqlite:
            connection.execute(sa.text("DROP TRIGGER journal_no_update"))
        else:
            connection.execute(sa.text("ALTER TABLE journal DISABLE TRIGGER USER"))
        forged = "UPDATE journal SET body = replace(body, 'Fine.', 'Bad.') WHERE annotator = 'bob'"
        connection.execute(sa.text(forged))
    with pytest.raises(WorkspaceError, match="not those it was taken of"):
        workspace.snapshots.rows(snapshot)


def test_a_reply_that_others_speak_of_keeps_its_words(
    workspace: Workspace, samples: list[Sample]
) -> None:
    alike, judged, asked, own, undone = (write(workspace, f"{n} words") for n in range(5))
    of_mia = [
        Correction(annotator="mia", sample=IDS[n % 4], corrected=each.id)
        for n, each in enumerate((alike, judged, asked, own, undone))
    ]
    workspace.journal.add(of_mia)
    workspace.journal.retract(of_mia[4].id, "undone", by="mia")
    bob = [
        Demonstration(annotator="bob", sample=alike.id),
        Comparison(annotator="bob", samples=(IDS[0], judged.id), choice="a"),
    ]
    workspace.journal.add(bob)
    workspace.queue.put("run-1", 1, [Task(kind="good_bad", sample_ids=(asked.id,))])
    erased = erase(workspace, "mia", by="boss")
    assert (erased.texts, erased.texts_kept) == (2, 3)
    kept = {each.text for each in (alike, judged, asked)}
    assert {header(workspace, s)["text"] for s in (alike, judged, asked, own, undone)} == {
        *kept,
        ERASED,
    }
    assert header(workspace, own) == header(workspace, undone) == Completion(text=ERASED).header()
    # Whoever wrote alike may have it erased later; what is only judged is not bob's to erase.
    assert erase(workspace, "bob", by="boss").texts == 1
    assert header(workspace, alike)["text"] == ERASED
    assert header(workspace, judged)["text"] == judged.text


@pytest.fixture
def chatting(workspace: Workspace, samples: list[Sample]) -> dict[str, User]:
    """Mia and noah, who may talk to a model."""
    workspace.models.register(ModelRecord(id="base", name="base", stage="base", path="base"))
    return {name: workspace.people.add(name) for name in ("mia", "noah")}


def test_what_was_said_to_models_goes_but_for_what_others_speak_of(
    workspace: Workspace, chatting: dict[str, User]
) -> None:
    mia, noah = chatting["mia"], chatting["noah"]
    said = [typed(workspace, mia.id, f"{MIA} {n}", "Yes?", f"And {MIA}") for n in range(2)]
    judged, alike = typed(workspace, mia.id, "Judged."), typed(workspace, mia.id, "Good morning.")
    typed(workspace, noah.id, "Good morning.")
    typed(workspace, mia.id, f"waiting: {MIA}", state="waiting")
    of_run = Prompt.from_text("Of the run.", source="run")
    workspace.prompts.add([of_run])
    workspace.generations.ask(mia.id, "playground", "base", of_run, {}, seed=1)
    workspace.journal.add([GoodBad(annotator="bob", sample=judged.id, good=True)])
    workspace.journal.add([GoodBad(annotator=mia.annotator, sample=said[0].id, good=True)])

    erased = erase(workspace, mia.annotator, by="boss")
    assert (erased.texts, erased.texts_kept) == (2, 2), "one is judged, one said by noah too"
    assert workspace.generations.take("worker", 9) == []
    workspace.people.add("boss", admin=True)
    forget_user(workspace, mia.id, "keep", by="boss")
    assert texts_with(workspace, MIA) == []
    prompts = workspace.prompts.get([s.prompt_id for s in (*said, judged, alike)] + [of_run.id])
    assert list(prompts) == [prompt.id for prompt in prompts.values()], "ids stay"
    texts = [[m.content for m in prompt.messages] for prompt in prompts.values()]
    assert texts == [[ERASED] * 3] * 2 + [["Judged."], ["Good morning."], ["Of the run."]]
    (found,) = workspace.samples.get([said[0].id]).values()
    assert (found.prompt_id, found.text) == (said[0].prompt_id, "A reply.")
    # Nobody is asked about a reply to what is not there.
    wanted = Wanted(models=("base",), prompts=9, each=1, which="newest")
    put_up = find_replies(workspace.database, wanted, np.random.default_rng(0))
    assert set(put_up) == {(judged.id,), (alike.id,)}


def test_the_same_may_be_said_to_a_model_anew(
    workspace: Workspace, chatting: dict[str, User]
) -> None:
    prompt = typed(workspace, chatting["mia"].id, "Hello?").prompt
    erase(workspace, chatting["mia"].annotator, by="boss")
    assert workspace.prompts.get([prompt.id])[prompt.id].text == ERASED
    workspace.prompts.add([Prompt.from_text("Something else.")])
    assert workspace.prompts.get([prompt.id])[prompt.id].text == ERASED
    typed(workspace, chatting["noah"].id, "Hello?")
    assert workspace.prompts.get([prompt.id]) == {prompt.id: prompt}


def test_what_a_model_said_is_not_erased(workspace: Workspace, samples: list[Sample]) -> None:
    """Somebody may demonstrate by a reply that a model wrote."""
    workspace.journal.add([Demonstration(annotator="mia", sample=IDS[3])])
    assert erase(workspace, "mia", by="boss").texts == 0
    assert header(workspace, samples[3])["text"] == "reply 3"


def test_the_same_words_may_be_written_anew(workspace: Workspace, samples: list[Sample]) -> None:
    reply = write(workspace, "Yes.")
    workspace.journal.add([Correction(annotator="mia", sample=IDS[0], corrected=reply.id)])
    erase(workspace, "mia", by="boss")
    assert header(workspace, reply)["text"] == ERASED
    workspace.samples.add(samples)
    assert header(workspace, reply)["text"] == ERASED
    assert write(workspace, "Yes.").id == reply.id
    assert header(workspace, reply)["text"] == "Yes."


def test_what_was_erased_is_not_put_up(workspace: Workspace, samples: list[Sample]) -> None:
    reply, _ = write(workspace, "Yes."), write(workspace, "No.")
    workspace.journal.add([Correction(annotator="mia", sample=IDS[0], corrected=reply.id)])
    generator = np.random.default_rng(0)
    for number in (6, 5):
        wanted = Wanted(models=(), prompts=9, each=number, which="newest")
        (found,) = find_replies(workspace.database, wanted, generator)
        assert (reply.id in found) == (number == 6)
        assert count_replies(workspace.database) == {"model-1": 8, None: number - 4}
        erase(workspace, "mia", by="boss")
    wanted = Wanted(models=(), prompts=9, each=6, which="newest")
    assert find_replies(workspace.database, wanted, generator) == []


def test_an_answer_on_its_way_finds_its_place_gone(
    workspace: Workspace, samples: list[Sample]
) -> None:
    workspace.queue.put("run-1", 1, [Task(kind="correction", sample_ids=(IDS[0],))])
    task = workspace.queue.next("mia")
    assert task is not None
    erase(workspace, "mia", by="boss")
    late = Sample.of(samples[0].prompt, Completion(text=MIA))
    entry = Correction(annotator="mia", sample=IDS[0], corrected=late.id)
    with pytest.raises(NotFoundError, match="was not handed to"):
        workspace.queue.answer(task.id, "mia", entry, written=[late])
    with pytest.raises(NotFoundError, match="was not handed to"):
        workspace.queue.save_draft(task.id, "mia", {"text": MIA})
    with pytest.raises(NotFoundError, match="was not handed to"):
        workspace.queue.skip(task.id, "mia", MIA)
    assert texts_with(workspace, MIA) == []


def test_to_erase_again_erases_what_came_since(
    workspace: Workspace, entries: list[FeedbackBase]
) -> None:
    assert len(erase(workspace, "mia", by="boss").retracted) == len(KINDS)
    before = everything(workspace.database)
    again = erase(workspace, "mia", by="boss")
    assert (again.retracted, again.texts, again.texts_kept) == ([], 0, 0)
    assert everything(workspace.database) == before
    later = SafetyFlag(annotator="mia", sample=IDS[1], safe=False, category=MIA)
    workspace.journal.add([later])
    assert workspace.journal.get([later.id]) == {later.id: later}
    assert erase(workspace, "mia", by="boss").retracted == [later.id]
    assert texts_with(workspace, MIA) == []
    with pytest.raises(NotFoundError, match="no annotator 'eve'"):
        erase(workspace, "eve", by="boss")


@pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)
def test_a_backup_keeps_what_was_erased_so(
    workspace: Workspace,
    entries: list[FeedbackBase],
    tmp_path: Path,
    database_address: str | None,
) -> None:
    erase(workspace, "mia", by="boss")
    write_backup(workspace, tmp_path / "all.tar")
    restore_backup(tmp_path / "all.tar", tmp_path / "new", database_address)
    with Workspace.open(tmp_path / "new") as restored:
        assert texts_with(restored, MIA) == []
        assert [e.id for e in lineage(restored, "m").all_entries] == [e.id for e in entries]
        assert erase(restored, "bob", by="boss").retracted == [entries[-1].id]
