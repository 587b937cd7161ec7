"""What becomes of a person's data: of the account, or of the part in one project."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from backup_helpers import everything
from test_backup import at_revision
from words_helpers import IDS, MIA, SPECIFIC, header, said, texts_with, typed, write

from backflip.errors import NotFoundError
from backflip.feedback.kinds import ERASED, Correction, Critique, GoodBad
from backflip.feedback.store import (
    Fate,
    ModelRecord,
    Project,
    Task,
    User,
    Workspace,
    forget_member,
    forget_user,
    is_elsewhere,
)
from backflip.records import Sample

HERE, THERE = "mia, here", "mia, there"


@dataclass
class Scene:
    """Two projects with a run and a chat each, and mia, who may answer in both."""

    here: Project
    there: Project
    mia: User

    @property
    def projects(self) -> tuple[tuple[Project, str], ...]:
        return (self.here, HERE), (self.there, THERE)


@pytest.fixture
def scene(workspace: Workspace, samples: list[Sample]) -> Scene:
    workspace.models.register(ModelRecord(id="base", name="base", stage="base", path="base"))
    here, there = (workspace.projects.create(name) for name in ("Here", "There"))
    mia = workspace.people.add("mia")
    for project in (here, there):
        workspace.projects.set_role(project.id, mia.id, "annotator")
        tasks = [Task(kind="good_bad", sample_ids=(name,)) for name in IDS[:4]]
        workspace.queue.put(f"run-{project.name}", 1, tasks, project=project.id)
    return Scene(here, there, mia)


@pytest.fixture
def busy(workspace: Workspace, scene: Scene) -> Scene:
    """Mia has said, skipped, drafted and chatted in both projects."""
    name = scene.mia.annotator
    for project, words in scene.projects:
        run = f"run-{project.name}"
        made = [said(workspace, name, words, kind, **fields) for kind, fields in SPECIFIC.items()]
        workspace.journal.add(made, run=run, round=1)
        other = GoodBad(annotator="bob", sample=IDS[0], good=True, key=run)
        workspace.journal.add([other], run=run, round=1)
        workspace.journal.retract(other.id, f"no, says {words}", by=name)
        for step in ("skipped", "answered", "drafted"):
            task = workspace.queue.next(name, project=project.id)
            assert task is not None
            vote = GoodBad(annotator=name, sample=task.sample_ids[0], good=True, reason=words)
            if step == "skipped":
                workspace.queue.skip(task.id, name, f"skipped: {words}")
            elif step == "answered":
                workspace.queue.answer(task.id, name, vote)
            else:
                workspace.queue.save_draft(task.id, name, {"text": f"draft: {words}"})
        typed(workspace, scene.mia.id, f"asked: {words}", project=project.id)
        chat = workspace.chats.start(project.id, scene.mia.id, "base")
        workspace.chats.say(chat, f"chat: {words}", ("one", "two"))
    for project, words in scene.projects:
        typed(workspace, scene.mia.id, f"waiting: {words}", state="waiting", project=project.id)
    return scene


def rows_with(workspace: Workspace, words: str) -> set[str]:
    rows = [row for table in everything(workspace.database).values() for row in table]
    return {str(row) for row in rows if any(words in value for value in row)}


def asked_of_bob(workspace: Workspace, project: Project) -> set[str]:
    found: set[str] = set()
    while task := workspace.queue.next("bob", project=project.id):
        found.update(task.sample_ids)
        workspace.queue.skip(task.id, "bob", "")
    return found


def test_what_was_said_in_one_project_is_erased_and_nothing_else(
    workspace: Workspace, busy: Scene
) -> None:
    name = busy.mia.annotator
    elsewhere = rows_with(workspace, THERE)
    assert len(elsewhere) > len(SPECIFIC)
    counted = workspace.journal.active(annotator=name, run="run-Here")
    done = forget_member(workspace, busy.here.id, busy.mia.id, "erase", by="lea")
    assert texts_with(workspace, HERE) == []
    assert rows_with(workspace, THERE) == elsewhere
    assert (done.annotator, done.account_deleted, done.texts_kept) == (name, False, 0)
    assert set(done.retracted) == {entry.id for entry in counted}
    assert len(counted) == len(SPECIFIC) + 1
    assert len(workspace.journal.active(annotator=name)) == len(SPECIFIC) + 1
    assert workspace.people.get(busy.mia.id) == busy.mia
    assert workspace.projects.roles(user=busy.mia.id) == {busy.there.id: "annotator"}
    assert workspace.projects.unnamed(busy.here.id) == {busy.mia.id}
    assert workspace.projects.unnamed(busy.there.id) == set()
    assert workspace.chats.of(busy.here.id, busy.mia.id) == []
    assert len(workspace.chats.of(busy.there.id, busy.mia.id)) == 1
    # What mia held goes to others, in this project only.
    held_by_mia = IDS[2]
    assert held_by_mia in asked_of_bob(workspace, busy.here)
    assert held_by_mia not in asked_of_bob(workspace, busy.there)
    held = workspace.queue.next(name, project=busy.there.id)
    assert held is not None
    assert held.sample_ids == (held_by_mia,)


@pytest.mark.parametrize("fate", ["keep", "retract"])
def test_the_words_stay_where_they_are_not_erased(
    workspace: Workspace, busy: Scene, fate: Fate
) -> None:
    name = busy.mia.annotator
    before = workspace.journal.active(annotator=name)
    there = [entry for entry in before if THERE in entry.reason]
    done = forget_member(workspace, busy.here.id, busy.mia.id, fate, by="lea")
    after = workspace.journal.active(annotator=name)
    assert after == (before if fate == "keep" else there)
    assert len(done.retracted) == len(before) - len(after)
    assert done.account_deleted is False
    for entry in done.retracted:
        row, retraction = workspace.journal.history(entry)
        assert row.entry is not None
        assert HERE in row.entry.reason
        assert (retraction.annotator, retraction.reason) == ("lea", "forgotten")
    assert set(texts_with(workspace, HERE)) == {"journal", "samples", "prompts", "assignments"}
    assert "draft" not in str(rows_with(workspace, HERE))
    assert workspace.projects.unnamed(busy.here.id) == {busy.mia.id}


def test_a_reply_that_the_person_wrote_elsewhere_too_keeps_its_words(
    workspace: Workspace, scene: Scene
) -> None:
    name = scene.mia.annotator
    both, only = write(workspace, "In both."), write(workspace, "Only here.")
    for run, written in (("run-Here", (both, only)), ("run-There", (both,))):
        entries = [
            Correction(annotator=name, sample=IDS[0], corrected=one.id, key=run) for one in written
        ]
        workspace.journal.add(entries, run=run, round=1)
    asked = [typed(workspace, scene.mia.id, "In both?", project=p.id) for p, _ in scene.projects]
    alone = typed(workspace, scene.mia.id, "Only here?", project=scene.here.id)
    done = forget_member(workspace, scene.here.id, scene.mia.id, "erase", by="lea")
    assert done.texts_kept == 1
    assert (header(workspace, both)["text"], header(workspace, only)["text"]) == (
        "In both.",
        ERASED,
    )
    ids = [asked[0].prompt_id, alone.prompt_id]
    assert [p.text for p in workspace.prompts.get(ids).values()] == ["In both?", ERASED]
    # The other project's lead decides later, and then it goes too, with the account.
    later = forget_member(workspace, scene.there.id, scene.mia.id, "erase", by="lea")
    assert (later.account_deleted, later.texts_kept) == (False, 0)
    assert header(workspace, both)["text"] == ERASED
    assert workspace.prompts.get(ids)[ids[0]].text == ERASED


def test_the_database_keeps_what_was_said_in_other_projects(
    workspace: Workspace, busy: Scene
) -> None:
    name = busy.mia.annotator
    entries = workspace.journal.active(annotator=name)
    snapshot = workspace.snapshots.take([entry.id for entry in entries]).id
    forget_member(workspace, busy.here.id, busy.mia.id, "erase", by="lea")
    rows = workspace.snapshots.rows(snapshot)
    assert [row.id for row in rows] == [entry.id for entry in entries]
    assert [row == entry for row, entry in zip(rows, entries, strict=True)] == [
        THERE in entry.reason for entry in entries
    ]
    before = everything(workspace.database)
    changes = [
        f"UPDATE journal SET body = '{{}}' WHERE annotator = '{name}' AND run = 'run-There'",  # noqa: S608
        f"UPDATE journal SET body = '{{}}' WHERE annotator = '{name}'",  # noqa: S608
        "UPDATE journal SET body = '{}' WHERE annotator = 'bob'",
        "UPDATE journal SET run = 'run-There' WHERE run = 'run-Here'",
    ]
    for change in changes:
        with (
            pytest.raises(sa.exc.DBAPIError, match="is append-only"),
            workspace.database.engine.begin() as connection,
        ):
            connection.execute(sa.text(change))
    assert everything(workspace.database) == before


def test_to_decide_again_erases_what_was_kept_before(workspace: Workspace, busy: Scene) -> None:
    forget_member(workspace, busy.here.id, busy.mia.id, "keep", by="lea")
    workspace.projects.set_role(busy.here.id, busy.mia.id, "annotator")
    assert workspace.projects.unnamed(busy.here.id) == set(), "who joins again is named again"
    for _ in range(2):
        forget_member(workspace, busy.here.id, busy.mia.id, "erase", by="lea")
        assert set(texts_with(workspace, HERE)) == {"prompts"}, "nobody knows any more whose it is"
        rows = everything(workspace.database)["erasures"]
        workspace.projects.set_role(busy.here.id, busy.mia.id, "annotator")
    assert len(rows) == 2, "the names of the columns, and one erasure"
    forget_user(workspace, busy.mia.id, "erase", by="lea")
    assert texts_with(workspace, THERE) == []


NEEDED: dict[str, Any] = {
    "nowhere": lambda workspace, scene: None,
    "as administrator": lambda workspace, scene: workspace.people.change(scene.mia.id, admin=True),
    "as member": lambda workspace, scene: workspace.projects.set_role(
        scene.there.id, scene.mia.id, "lead"
    ),
    "as author": lambda workspace, scene: workspace.journal.add(
        [GoodBad(annotator=scene.mia.annotator, sample=IDS[0], good=True)],
        run="run-There",
        round=1,
    ),
    "as author of no project": lambda workspace, scene: workspace.journal.add(
        [GoodBad(annotator=scene.mia.annotator, sample=IDS[0], good=True)]
    ),
}


@pytest.mark.parametrize("why", NEEDED)
def test_the_account_goes_unless_it_is_needed(workspace: Workspace, scene: Scene, why: str) -> None:
    workspace.projects.set_role(scene.there.id, scene.mia.id, None)
    vote = GoodBad(annotator=scene.mia.annotator, sample=IDS[1], good=True)
    workspace.journal.add([vote], run="run-Here", round=1)
    NEEDED[why](workspace, scene)
    stays = why != "nowhere"
    assert is_elsewhere(workspace, scene.here.id, scene.mia.id) == stays
    done = forget_member(workspace, scene.here.id, scene.mia.id, "retract", by="lea")
    assert (done.account_deleted, done.retracted) == (not stays, [vote.id])
    assert [user.name for user in workspace.people.all()] == ["mia"] * stays
    assert workspace.projects.unnamed(scene.here.id) == ({scene.mia.id} if stays else set())


def test_an_account_that_goes_takes_every_word_along(workspace: Workspace, scene: Scene) -> None:
    workspace.projects.set_role(scene.there.id, scene.mia.id, None)
    typed(workspace, scene.mia.id, f"asked: {MIA}")
    chat = workspace.chats.start(scene.here.id, scene.mia.id, "base")
    workspace.chats.say(chat, f"chat: {MIA}", ("one", "two"))
    text = Critique(annotator=scene.mia.annotator, sample=IDS[0], text=MIA)
    workspace.journal.add([text], run="run-Here", round=1)
    done = forget_member(workspace, scene.here.id, scene.mia.id, "erase", by="lea")
    assert (done.account_deleted, done.retracted) == (True, [text.id])
    assert texts_with(workspace, MIA) == texts_with(workspace, scene.mia.id) == []


def test_nothing_happens_to_who_is_no_member(workspace: Workspace, busy: Scene) -> None:
    bob = workspace.people.add("bob")
    before = everything(workspace.database)
    wrong: list[tuple[str, str, Any, type[Exception], str]] = [
        (busy.here.id, bob.id, "erase", NotFoundError, "no member"),
        (busy.here.id, "none", "keep", NotFoundError, "no member"),
        ("none", busy.mia.id, "erase", NotFoundError, "no project"),
        (busy.here.id, busy.mia.id, "sell", ValueError, "cannot 'sell'"),
    ]
    for project, user, fate, error, words in wrong:
        with pytest.raises(error, match=words):
            forget_member(workspace, project, user, fate, by="lea")
    assert everything(workspace.database) == before


def test_who_was_erased_before_stays_erased_when_the_schema_changes(
    tmp_path: Path, database_address: str | None, request: pytest.FixtureRequest
) -> None:
    old = at_revision(tmp_path / "old", database_address, "0002")
    request.addfinalizer(old.close)
    rows = {
        "annotators": [{"name": name, "created": "2026-01-01"} for name in ("mia", "bob")],
        "journal": [
            {"id": f"critique by {name}", "kind": "critique", "annotator": name, "body": "{}"}
            | {"created": "2026-01-01"}
            for name in ("mia", "bob")
        ],
        "erasures": [{"annotator": "mia", "created": "2026-01-01"}],
    }
    with old.database.write() as connection:
        for name, values in rows.items():
            table = sa.table(name, *map(sa.column, values[0]))
            connection.execute(sa.insert(table), values)
    old.database.migrate()
    assert everything(old.database)["erasures"][1:] == [("'mia'", "'2026-01-01'", "1", "None")]
    change = "UPDATE journal SET body = '{\"text\": 1}' WHERE annotator = '%s'"
    with old.database.write() as connection:
        connection.execute(sa.text(change % "mia"))
    with (
        pytest.raises(sa.exc.DBAPIError, match="is append-only"),
        old.database.engine.begin() as connection,
    ):
        connection.execute(sa.text(change % "bob"))
