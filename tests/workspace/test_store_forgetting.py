"""What becomes of a person's data: of the account, or of the part in one project."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from backup_helpers import everything
from test_backup import at_revision
from words_helpers import IDS, MIA, SPECIFIC, header, said, texts_with, typed, write

from backflip.errors import ConflictError, NotFoundError
from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import ERASED, Comparison, Correction, Critique, GoodBad, Implicit
from backflip.workspace import (
    Fate,
    Forgotten,
    ModelRecord,
    Project,
    Task,
    User,
    VolunteeredIn,
    Workspace,
    erase,
    forget_member,
    forget_user,
    known_person,
)

HERE, THERE = "mia, here", "mia, there"


@dataclass
class Scene:
    """Two projects with a run each, mia, who may answer in both, and lea, who leads both."""

    workspace: Workspace
    here: Project
    there: Project
    mia: User
    lea: User

    @property
    def projects(self) -> tuple[tuple[Project, str], ...]:
        return (self.here, HERE), (self.there, THERE)

    def forget(self, fate: Fate, project: Project | None = None, **options: Any) -> Forgotten:
        """Lea forgets mia; here, unless another project is named."""
        place = (project or self.here).id
        return forget_member(self.workspace, place, self.mia.id, fate, by=self.lea, **options)


@pytest.fixture
def scene(workspace: Workspace, samples: list[Sample]) -> Scene:
    workspace.models.register(ModelRecord(id="base", name="base", stage="base", path="base"))
    here, there = (workspace.projects.create(name) for name in ("Here", "There"))
    mia, lea = (workspace.people.add(name) for name in ("mia", "lea"))
    for project in (here, there):
        workspace.projects.set_role(project.id, mia.id, "annotator")
        workspace.projects.set_role(project.id, lea.id, "lead")
        tasks = [Task(kind="good_bad", sample_ids=(name,)) for name in IDS[:4]]
        workspace.queue.put(f"run-{project.name}", 1, tasks, project=project.id)
    return Scene(workspace, here, there, mia, lea)


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
    done = busy.forget("erase")
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
    done = busy.forget(fate)
    after = workspace.journal.active(annotator=name)
    assert after == (before if fate == "keep" else there)
    assert len(done.retracted) == len(before) - len(after)
    assert done.account_deleted is False
    for entry in done.retracted:
        row, retraction = workspace.journal.history(entry)
        assert row.entry is not None
        assert HERE in row.entry.reason
        assert (retraction.annotator, retraction.reason) == (busy.lea.annotator, "forgotten")
    tables = {"journal", "samples", "prompts", "assignments", "generations"}
    assert set(texts_with(workspace, HERE)) == tables
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
    done = scene.forget("erase")
    assert done.texts_kept == 2, "the reply, and the prompt"
    assert (header(workspace, both)["text"], header(workspace, only)["text"]) == (
        "In both.",
        ERASED,
    )
    ids = [asked[0].prompt_id, alone.prompt_id]
    assert [p.text for p in workspace.prompts.get(ids).values()] == ["In both?", ERASED]
    # The other project's lead decides later, and then it goes too, with the account.
    later = scene.forget("erase", scene.there)
    assert (later.account_deleted, later.texts_kept) == (False, 0)
    assert header(workspace, both)["text"] == ERASED
    assert workspace.prompts.get(ids)[ids[0]].text == ERASED


def test_the_database_keeps_what_was_said_in_other_projects(
    workspace: Workspace, busy: Scene
) -> None:
    name = busy.mia.annotator
    entries = workspace.journal.active(annotator=name)
    snapshot = workspace.snapshots.take([entry.id for entry in entries]).id
    busy.forget("erase")
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
    busy.forget("keep")
    rejoin = workspace.projects.set_role
    rejoin(busy.here.id, busy.mia.id, "annotator")
    assert workspace.projects.unnamed(busy.here.id) == set(), "who joins again is named again"
    for _ in range(2):
        busy.forget("erase")
        assert texts_with(workspace, HERE) == []
        rows = everything(workspace.database)["erasures"]
        rejoin(busy.here.id, busy.mia.id, "annotator")
    assert len(rows) == 2, "the names of the columns, and one erasure"
    forget_user(workspace, busy.mia.id, "erase", by="lea")
    assert texts_with(workspace, THERE) == []


def test_what_is_said_after_an_erasure_is_kept_like_anything(
    workspace: Workspace, scene: Scene
) -> None:
    name = scene.mia.annotator
    judged = write(workspace, "Bob's own words.")
    by_bob = Correction(annotator="bob", sample=IDS[0], corrected=judged.id)
    early = Critique(annotator=name, sample=IDS[0], text="Early.")
    workspace.journal.add([by_bob, early], run="run-Here", round=1)
    scene.forget("erase")
    workspace.projects.set_role(scene.here.id, scene.mia.id, "annotator")
    late = [
        GoodBad(annotator=name, sample=judged.id, good=True),
        Critique(annotator=name, sample=IDS[0], text="Late."),
    ]
    workspace.journal.add(late, run="run-Here", round=1)
    # Mia speaks of Bob's words again, so they stay.
    assert erase(workspace, "bob", by="lea").texts_kept == 1
    assert header(workspace, judged)["text"] == "Bob's own words."
    snapshot = workspace.snapshots.take([early.id, late[1].id])
    assert [row.text for row in workspace.snapshots.rows(snapshot.id)] == [ERASED, "Late."]  # pyright: ignore
    change = sa.text("UPDATE journal SET body = '{}' WHERE id = :id")
    with (
        pytest.raises(sa.exc.DBAPIError, match="is append-only"),
        workspace.database.engine.begin() as connection,
    ):
        connection.execute(change, {"id": late[1].id})
    scene.forget("erase")
    assert [row.text for row in workspace.snapshots.rows(snapshot.id)] == [ERASED, ERASED]  # pyright: ignore


def test_an_erasure_is_noted_only_where_something_was_said(
    workspace: Workspace, scene: Scene
) -> None:
    for number in range(3):
        workspace.queue.put(f"more-{number}", 1, [], project=scene.here.id)
    text = Critique(annotator=scene.mia.annotator, sample=IDS[0], text=MIA)
    workspace.journal.add([text], run="more-1", round=1)
    scene.forget("erase")
    (row,) = everything(workspace.database)["erasures"][1:]
    assert "'more-1'" in row


def sign_out(scene: Scene) -> None:
    scene.workspace.people.add("boss", admin=True)
    scene.workspace.people.change(scene.mia.id, active=False)


def rule_all(scene: Scene) -> None:
    scene.workspace.people.change(scene.mia.id, admin=True)


def take_part(scene: Scene) -> None:
    scene.workspace.projects.set_role(scene.there.id, scene.mia.id, "lead")


def answer_there(scene: Scene) -> None:
    said = GoodBad(annotator=scene.mia.annotator, sample=IDS[0], good=True)
    scene.workspace.journal.add([said], run="run-There", round=1)


def answer_nowhere(scene: Scene) -> None:
    said = GoodBad(annotator=scene.mia.annotator, sample=IDS[0], good=True)
    scene.workspace.journal.add([said])


def skip_there(scene: Scene) -> None:
    task = scene.workspace.queue.next(scene.mia.annotator, project=scene.there.id)
    assert task is not None
    scene.workspace.queue.skip(task.id, scene.mia.annotator, MIA)


def chat_there(scene: Scene) -> None:
    take_part(scene)
    scene.workspace.chats.start(scene.there.id, scene.mia.id, "base")
    scene.workspace.projects.set_role(scene.there.id, scene.mia.id, None)


def ask_there(scene: Scene) -> None:
    take_part(scene)
    typed(scene.workspace, scene.mia.id, MIA, project=scene.there.id)
    scene.workspace.projects.set_role(scene.there.id, scene.mia.id, None)


def instruct_there(scene: Scene) -> None:
    scene.workspace.projects.add_guideline(scene.there.id, MIA, scene.mia.annotator)


NEEDED = (
    *(sign_out, rule_all, take_part, answer_there, answer_nowhere),
    *(skip_there, chat_there, ask_there, instruct_there),
)


@pytest.mark.parametrize("why", [None, *NEEDED])
def test_the_account_goes_unless_it_is_needed(
    workspace: Workspace, scene: Scene, why: Callable[[Scene], None] | None
) -> None:
    workspace.projects.set_role(scene.there.id, scene.mia.id, None)
    vote = GoodBad(annotator=scene.mia.annotator, sample=IDS[1], good=True)
    workspace.journal.add([vote], run="run-Here", round=1)
    if why is not None:
        why(scene)
    stays = why is not None
    assert known_person(workspace, scene.here.id, scene.mia.id)[1] == stays
    there = rows_with(workspace, MIA)
    before = everything(workspace.database)
    with pytest.raises(ConflictError, match="stay by now" if stays else "be deleted by now"):
        scene.forget("erase", deletes_account=stays)
    assert everything(workspace.database) == before
    done = scene.forget("erase", deletes_account=not stays)
    assert (done.account_deleted, done.retracted) == (not stays, [vote.id])
    assert (workspace.people.named("mia") is not None) == stays
    assert workspace.projects.unnamed(scene.here.id) == ({scene.mia.id} if stays else set())
    assert rows_with(workspace, MIA) == there


def test_an_account_that_goes_takes_every_word_along(workspace: Workspace, scene: Scene) -> None:
    workspace.projects.set_role(scene.there.id, scene.mia.id, None)
    typed(workspace, scene.mia.id, f"asked: {MIA}", project=scene.here.id)
    chat = workspace.chats.start(scene.here.id, scene.mia.id, "base")
    workspace.chats.say(chat, f"chat: {MIA}", ("one", "two"))
    text = Critique(annotator=scene.mia.annotator, sample=IDS[0], text=MIA)
    workspace.journal.add([text], run="run-Here", round=1)
    done = scene.forget("erase")
    assert (done.account_deleted, done.retracted) == (True, [text.id])
    assert texts_with(workspace, MIA) == texts_with(workspace, scene.mia.id) == []


def test_nothing_happens_to_who_is_not_known(workspace: Workspace, busy: Scene) -> None:
    bob = workspace.people.add("bob")
    noah = workspace.people.add("noah")
    workspace.projects.set_role(busy.here.id, noah.id, "annotator")
    before = everything(workspace.database)
    wrong: list[tuple[str, str, Any, User, type[Exception], str]] = [
        (busy.here.id, bob.id, "erase", busy.lea, NotFoundError, "no member"),
        (busy.here.id, "none", "keep", busy.lea, NotFoundError, "no member"),
        ("none", busy.mia.id, "erase", busy.lea, NotFoundError, "no project"),
        (busy.here.id, busy.mia.id, "sell", busy.lea, ValueError, "cannot 'sell'"),
        (busy.here.id, busy.mia.id, "erase", noah, NotFoundError, "no lead"),
        (busy.here.id, busy.mia.id, "erase", bob, NotFoundError, "no lead"),
    ]
    for project, user, fate, by, error, words in wrong:
        with pytest.raises(error, match=words):
            forget_member(workspace, project, user, fate, by=by)
    assert everything(workspace.database) == before


def test_who_was_a_member_can_be_forgotten_once(workspace: Workspace, busy: Scene) -> None:
    workspace.projects.set_role(busy.here.id, busy.mia.id, None)
    assert known_person(workspace, busy.here.id, busy.mia.id) == (busy.mia, True)
    assert busy.forget("erase").account_deleted is False
    assert texts_with(workspace, HERE) == []
    assert workspace.projects.unnamed(busy.here.id) == {busy.mia.id}
    with pytest.raises(NotFoundError, match="no member"):
        busy.forget("erase")
    with pytest.raises(NotFoundError, match="no member"):
        known_person(workspace, busy.here.id, busy.mia.id)


def test_what_is_on_its_way_meanwhile_comes_too_late(workspace: Workspace, busy: Scene) -> None:
    """As when a route has looked at the role, and waits for the erasure to end."""
    people, mia = workspace.people, busy.mia
    workspace.projects.set_role(busy.here.id, mia.id, "lead")
    (chat,) = workspace.chats.of(busy.here.id, mia.id)
    asked = workspace.generations.take("worker", 9)
    replies = {
        each.id: Sample.of(each.prompt, Completion(text="A reply.", finish="stop"), seed=9)
        for each in asked
        if each.project == busy.here.id
    }
    assert len(replies) == 1
    said = Comparison(annotator=mia.annotator, samples=(IDS[0], IDS[1]), choice="b", reason=HERE)
    seen = Implicit(annotator=mia.annotator, sample=IDS[0], signal="copied", tags=(HERE,))
    prompt = Prompt.from_text(f"late: {HERE}", source="chat")
    place = VolunteeredIn(project=busy.here.id, run="playground-x", name="Playground")
    busy.forget("erase")
    assert workspace.generations.finish("worker", replies) == set()
    late: list[Callable[[], Any]] = [
        lambda: workspace.chats.say(chat, HERE, ("three", "four")),
        lambda: workspace.chats.note(chat, seen),
        lambda: workspace.chats.start(busy.here.id, mia.id, "base"),
        lambda: workspace.volunteered.put(place, said, mia.id),
        lambda: workspace.adjudications.rule(busy.here.id, mia.id, said, withdraw=True),
        lambda: workspace.projects.change_role(busy.here.id, mia.id, "lead"),
        lambda: workspace.generations.ask(
            mia.id, "chat", "base", prompt, {}, seed=1, project=busy.here.id
        ),
    ]
    for attempt in late:
        with pytest.raises(NotFoundError):
            attempt()
    assert texts_with(workspace, HERE) == []
    assert people.get(mia.id) == mia


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
        "snapshots": [{"id": f"s-{n}", "created": "2026-01-01"} for n in (1, 2)],
        "snapshot_entries": [
            {"snapshot_id": f"s-{n}", "place": place, "entry_id": f"critique by {name}"}
            for n, names in ((1, ("mia",)), (2, ("mia", "bob")))
            for place, name in enumerate(names)
        ],
        "models": [
            {"id": name, "name": name, "stage": "reward", "path": "{}", "recipe": "{}"}
            | {"parents": json.dumps(parents), "snapshot": snapshot, "metrics": "{}"}
            | {"created": "2026-01-01"}
            for name, parents, snapshot in (
                ("base", [], None),
                ("first", ["base"], "s-1"),
                ("second", ["first"], "s-2"),
            )
        ],
    }
    with old.database.write() as connection:
        for name, values in rows.items():
            table = sa.table(name, *map(sa.column, values[0]))
            connection.execute(sa.insert(table), values)
    old.database.migrate()
    assert everything(old.database)["erasures"][1:] == [("'mia'", "'2026-01-01'", "1", "None", "2")]
    assert set(everything(old.database)["model_annotators"][1:]) == {
        ("'mia'", "1", "'first'"),
        ("'mia'", "1", "'second'"),
        ("'bob'", "1", "'second'"),
    }
    change = "UPDATE journal SET body = '{\"text\": 1}' WHERE annotator = '%s'"
    with old.database.write() as connection:
        connection.execute(sa.text(change % "mia"))
    with (
        pytest.raises(sa.exc.DBAPIError, match="is append-only"),
        old.database.engine.begin() as connection,
    ):
        connection.execute(sa.text(change % "bob"))
