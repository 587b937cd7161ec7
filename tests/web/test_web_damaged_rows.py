"""A row that somebody damaged in the database: every page is there, and shows what it can."""

from typing import Any

import pytest
import sqlalchemy as sa
from web_helpers import SAMPLES, TASKS, Browser

from backflip.feedback.kinds import DAMAGED, Critique
from backflip.feedback.store import MAIN, ModelRecord, Workspace, schema

BROKEN = '{"text": "half \\ud800'
WRONG = ("[]", "17", '"text"', "{}", '{"text": 5}', "null", BROKEN)
PAGES = ("", "/label", "/chat", "/questions", "/rules", "/people", "/answers", "/quality", "/data")
HELD = [
    column
    for table in schema.metadata.sorted_tables
    for column in table.columns
    if isinstance(column.type, schema.Kept)
]


@pytest.fixture
def boss(workspace: Workspace, sign_in: Any) -> Browser:
    """An administrator who answered a question, drafts another and has a chat; all in `MAIN`."""
    workspace.samples.add(SAMPLES)
    workspace.queue.put("run-1", 1, [TASKS["critique"], TASKS["rating"]], overlap=2)
    workspace.models.register(ModelRecord(id="model-1", name="m", stage="sft", path="models/m"))
    browser = sign_in("boss")
    who, queue = browser.user, workspace.queue
    workspace.projects.add_guideline(MAIN, "Be fair.", who.annotator)
    workspace.people.add_token(who.id, "mine")
    workspace.people.change(who.id, preferences={"theme": "dark"})
    workspace.webhooks.add(MAIN, "https://example.org/told", ["answer"])
    first = queue.next(who.annotator)
    (sample,) = first.sample_ids
    queue.answer(
        first.id, who.annotator, Critique(annotator=who.annotator, sample=sample, text="Hm.")
    )
    queue.save_draft(queue.next(who.annotator).id, who.annotator, {"form": {"level": 3}})
    workspace.chats.start(MAIN, who.id, "model-1")
    return browser


def damage(workspace: Workspace, column: Any, text: str | None) -> int:
    """Write a text into a column of all rows as another program would; the number of rows."""
    table, raw = sa.table(column.table.name, sa.column(column.name)), {column.name: text}
    with workspace.database.engine.begin() as connection:
        if column.table is schema.journal:
            sqlite = workspace.database.is_sqlite
            off = "DROP TRIGGER IF EXISTS journal_no_update"
            connection.execute(
                sa.text(off if sqlite else "ALTER TABLE journal DISABLE TRIGGER USER")
            )
        return connection.execute(sa.update(table).values(raw)).rowcount


def faults(browser: Browser) -> dict[str, int]:
    """The pages that do not answer 200."""
    paths = ("/", "/account", *(f"/projects/{MAIN}{page}" for page in PAGES))
    found = {path: browser.get(path).status_code for path in paths}
    return {path: status for path, status in found.items() if status != 200}


@pytest.mark.parametrize("column", HELD, ids=lambda column: f"{column.table.name}.{column.name}")
def test_every_page_is_there_whatever_a_column_holds(
    workspace: Workspace, boss: Browser, column: Any
) -> None:
    assert faults(boss) == {}
    told = {}
    for text in WRONG:
        damage(workspace, column, text)
        told |= {(text, path): status for path, status in faults(boss).items()}
        asked = boss.post(f"/api/projects/{MAIN}/next", {"besides": []})
        if asked.status_code >= 500:
            told[text, "next"] = asked.status_code
    assert told == {}


def test_pages_say_what_cannot_be_read(workspace: Workspace, boss: Browser) -> None:
    def asked() -> Any:
        return boss.post(f"/api/projects/{MAIN}/next", {"besides": []}).json()["task"]

    assert (asked()["draft"], asked()["draft_lost"]) == ({"form": {"level": 3}}, False)
    assert damage(workspace, schema.assignments.c.draft, BROKEN) == 2
    assert (asked()["draft"], asked()["draft_lost"]) == (None, True)
    assert boss.send("PUT", f"/api/tasks/{asked()['id']}/draft", {"draft": {}}).status_code == 200
    assert asked()["draft_lost"] is False
    assert "is damaged" not in boss.get(f"/projects/{MAIN}/answers").text
    damage(workspace, schema.samples.c.header, BROKEN)
    assert DAMAGED in asked()["samples"][0]["html"]
    damage(workspace, schema.journal.c.body, "{}")
    assert "This answer is damaged" in boss.get(f"/projects/{MAIN}/answers").text
    damage(workspace, schema.projects.c.settings, BROKEN)
    page = boss.get(f"/projects/{MAIN}/rules").text
    assert "The rules of this project are damaged" in page
    assert asked() is None
