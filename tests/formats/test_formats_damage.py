"""A workspace that is damaged in a place: an export names what it lacks, and holds all else."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from test_formats_roundtrip import all_kinds
from typer.testing import CliRunner

from backflip.cli.app import app
from backflip.errors import DamageError
from backflip.formats import FORMATS, Labelled, export_file, read
from backflip.workspace import Workspace
from backflip.workspace.database import schema

BROKEN = '{"text": "half \\ud800'
DAMAGE: dict[str, tuple[sa.Table, str | None, Any]] = {
    "a sample's words": (schema.samples, "header", BROKEN),
    "a sample of another shape": (schema.samples, "header", '{"type": "completion"}'),
    "a sample that is another": (schema.samples, "weights_version", 77),
    "a sample's arrays": (schema.samples, "arrays", b"\xff" * 9),
    "a sample's origin": (schema.samples, "origin", "[]"),
    "a prompt's words": (schema.prompts, "content", BROKEN),
    "a prompt of another shape": (schema.prompts, "content", '{"messages": [1]}'),
    "an entry's words": (schema.journal, "body", BROKEN),
    "an entry of another shape": (schema.journal, "body", "{}"),
    "an entry that says the opposite": (
        schema.journal,
        "body",
        sa.text("json_set(body, '$.reason', 'No.')"),
    ),
    "a byte that is no text in an entry": (
        schema.journal,
        "body",
        sa.text("CAST(x'7bff7d' AS TEXT)"),
    ),
    "a byte that is no text in a sample": (
        schema.samples,
        "header",
        sa.text("CAST(x'7bff7d' AS TEXT)"),
    ),
    "a sample that is gone": (schema.samples, None, None),
}


@pytest.fixture
def workspace(sqlite_template: Path, tmp_path: Path) -> Iterator[Workspace]:
    shutil.copytree(sqlite_template, tmp_path / "workspace")
    with Workspace.open(tmp_path / "workspace") as made:
        for row in all_kinds():
            made.samples.add(row.samples)
            made.journal.add(row.entries)
        yield made


def spoil(workspace: Workspace, what: str) -> set[str]:
    """Damage a row in the middle of its table; returns the entries that cannot be told whole."""
    table, column, value = DAMAGE[what]
    entries = workspace.journal.active()
    with workspace.database.engine.connect() as connection:
        ids = list(connection.execute(sa.select(table.c.id)).scalars())
        name = ids[1]
        prompts = dict(
            connection.execute(sa.select(schema.samples.c.id, schema.samples.c.prompt_id)).all()
        )
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        connection.exec_driver_sql("DROP TRIGGER journal_no_update")
        raw = sa.table(table.name, sa.column("id"), *([sa.column(column)] if column else []))
        if column is None:
            connection.execute(sa.delete(raw).where(raw.c.id == name))
        else:
            connection.execute(sa.update(raw).values({column: value}).where(raw.c.id == name))
        connection.commit()
    return {
        entry.id
        for entry in entries
        if name in {entry.id, *entry.sample_ids, *(prompts[each] for each in entry.sample_ids)}
    }


@pytest.mark.parametrize("what", DAMAGE)
def test_an_export_goes_on_without_what_is_damaged(
    workspace: Workspace, tmp_path: Path, what: str
) -> None:
    whole = workspace.journal.active()
    spoiled = spoil(workspace, what)
    assert 0 < len(spoiled) < len(whole)
    wanted = [entry for entry in whole if entry.id not in spoiled]
    told: dict[str, str] = {}
    for name, format_ in FORMATS.items():
        path = tmp_path / f"{name}{format_.files[0]}"
        with pytest.raises(DamageError):
            export_file(workspace, path, name)
        assert not path.exists()
        told.clear()
        written = export_file(
            workspace, path, name, on_damaged=lambda id_, error: told.update({id_: error.what})
        )
        assert set(told) == spoiled
        assert all("damaged" in reason or "is gone" in reason for reason in told.values())
        assert written.rows + sum(written.left_out.values()) == len(wanted)
        if format_.exact:
            rows = list(read(path, name))
            assert [r.entries[0] for r in rows if isinstance(r, Labelled)] == wanted


def test_the_command_names_what_is_damaged(workspace: Workspace, tmp_path: Path) -> None:
    spoiled = spoil(workspace, "a prompt's words")
    path = tmp_path / "out.jsonl"
    command = ["feedback", "export", str(path), "-w", str(workspace.root)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert f"{len(spoiled)} left out" in done.stdout
    assert all(name in done.stdout for name in spoiled)
    assert f"lacks {len(spoiled)} damaged answer" in done.stderr
    alone = CliRunner().invoke(app, [*command, "--axis", "nothing else"])
    assert alone.exit_code == 0
    with workspace.database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE samples SET weights_version = 77"))
    nothing = CliRunner().invoke(app, command)
    assert nothing.exit_code == 1
    assert "0 rows written" in nothing.stdout
