"""A row that somebody damaged in the database: every page is there, and shows what it can."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import sqlalchemy as sa
from odd_helpers import busy_server, faults, next_task
from web_helpers import Browser

from backflip.records.feedback import DAMAGED
from backflip.workspace import MAIN, Workspace
from backflip.workspace.database import columns, schema

BROKEN = '{"text": "half \\ud800'
SHAPES = ("[]", "17", '"text"', "{}", '{"text": 5}', "null", '{"messages": [1]}')
HELD = [
    column
    for table in schema.metadata.sorted_tables
    for column in table.columns
    if isinstance(column.type, columns.Kept)
]


def unlock(workspace: Workspace) -> None:
    """Let rows be changed that the database keeps as they are."""
    with workspace.database.engine.begin() as connection:
        query = sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for name in connection.execute(query).scalars().all():
            connection.execute(sa.text(f"DROP TRIGGER {name}"))


@pytest.fixture(scope="module")
def busy(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Workspace, Browser]]:
    with busy_server(sqlite_template, tmp_path_factory.mktemp("rows") / "w") as made:
        unlock(made[0])
        yield made


@pytest.fixture(scope="module")
def fresh(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Workspace, Browser]]:
    """Another one: questions that were damaged stay closed."""
    with busy_server(sqlite_template, tmp_path_factory.mktemp("fresh") / "w") as made:
        unlock(made[0])
        yield made


TEXTS = [
    column
    for table in schema.metadata.sorted_tables
    for column in table.columns
    if isinstance(column.type, sa.Text | columns.Json | columns.Moment)
    and not (column.primary_key or column.foreign_keys or column.name in ("id", "hash"))
]
"""Columns that rows are not named by."""
MODEL = f"/projects/{MAIN}/models/model-1"
_models = schema.models.c
_unread = (_models.stage, _models.path, _models.parents, _models.recipe, _models.metrics)
ITS_OWN = dict.fromkeys((_models.run, schema.batches.c.run), 404) | dict.fromkeys(_unread, 500)
"""What the page of a single model answers, in words, where that model is of no run of the project
any more, or cannot be read."""


@contextmanager
def damaged(workspace: Workspace, column: Any, text: str) -> Iterator[int]:
    """Another program's text in a column of all rows, for a while; the number of rows."""
    table = sa.table(column.table.name, sa.column("rowid"), sa.column(column.name))
    with workspace.database.engine.begin() as connection:
        before = connection.execute(sa.select(table)).all()
        number = connection.execute(sa.update(table).values({column.name: text})).rowcount
    yield number
    with workspace.database.engine.begin() as connection:
        for rowid, value in before:
            this = sa.update(table).where(table.c.rowid == rowid)
            connection.execute(this.values({column.name: value}))


@pytest.mark.parametrize("place", range(len(HELD)), ids=lambda i: f"{HELD[i].table}.{HELD[i].name}")
def test_every_page_is_there_whatever_a_column_holds(busy: Any, place: int) -> None:
    workspace, boss = busy
    told: dict[tuple[str, str], int] = {}
    for text in (BROKEN, SHAPES[place % len(SHAPES)]):
        with damaged(workspace, HELD[place], text):
            told |= {(text, path): status for path, status in faults(boss).items()}
            asked = boss.post(f"/api/projects/{MAIN}/next", {"besides": []}).status_code
            if asked >= 500:
                told[text, "next"] = asked
    assert told == {}


@pytest.mark.parametrize(
    "place", range(len(TEXTS)), ids=lambda i: f"{TEXTS[i].table}.{TEXTS[i].name}"
)
def test_a_byte_that_is_no_text_spoils_its_own_row_alone(busy: Any, place: int) -> None:
    workspace, boss = busy
    column = TEXTS[place]
    table = sa.table(column.table.name, sa.column("rowid"), sa.column(column.name))
    with workspace.database.engine.begin() as connection:
        before = connection.execute(sa.select(table)).all()
        assert before, f"nobody has made a row of {column.table.name}"
        rowid, value = before[0]
        spoilt = str(value or "")[:3].encode() + b"\xff" + str(value or "")[4:].encode()
        this = sa.update(table).where(table.c.rowid == rowid)
        put = sa.cast(sa.literal(spoilt, sa.LargeBinary), sa.Text)
        connection.execute(this.values({column.name: put}))
    try:
        told = faults(boss)
        asked = boss.post(f"/api/projects/{MAIN}/next", {"besides": []}).status_code
    finally:
        with workspace.database.engine.begin() as connection:
            connection.execute(this.values({column.name: value}))
    assert told.pop(MODEL, 200) == ITS_OWN.get(column, 200)
    assert (told, asked < 500) == ({}, True)


def test_pages_say_what_cannot_be_read(fresh: Any) -> None:
    workspace, boss = fresh
    assert faults(boss) == {}
    asked = next_task(boss)
    assert (asked["draft"], asked["draft_lost"]) == ({"form": {"level": 3}}, False)
    with damaged(workspace, schema.assignments.c.draft, BROKEN):
        asked = next_task(boss)
        assert (asked["draft"], asked["draft_lost"]) == (None, True)
        saved = boss.send("PUT", f"/api/tasks/{asked['id']}/draft", {"draft": {}})
        assert saved.status_code == 200
        assert next_task(boss)["draft_lost"] is False
    answers, rules = f"/projects/{MAIN}/answers", f"/projects/{MAIN}/rules"
    assert "is damaged" not in boss.get(answers).text
    with damaged(workspace, schema.samples.c.header, BROKEN):
        assert DAMAGED in next_task(boss)["samples"][0]["html"]
    with damaged(workspace, schema.journal.c.body, "{}"):
        assert "This answer is damaged" in boss.get(answers).text
    with damaged(workspace, schema.projects.c.settings, BROKEN):
        assert "The rules of this project are damaged" in boss.get(rules).text


def test_what_cannot_be_made_of_damaged_rows_is_no_fault_of_the_asker(
    fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file must be whole or not be made: 500 for damage, 507 for a disk that is full."""
    workspace, boss = fresh
    export = f"/api/projects/{MAIN}/export"
    assert boss.get(export).status_code == 200
    with damaged(workspace, schema.samples.c.weights_version, "77"):
        told = boss.get(export)
        assert told.status_code == 500
        assert "is damaged" in told.json()["error"]["what"]
    full = OSError(errno.ENOSPC, "kein Platz")
    monkeypatch.setattr("backflip.data.scratch.TemporaryDirectory", Mock(side_effect=full))
    told = boss.get(export)
    assert told.status_code == 507
    assert "the disk is full" in told.json()["error"]["what"]
