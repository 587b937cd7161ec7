"""The first schema."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY = ("journal", "snapshots", "snapshot_entries")


def upgrade() -> None:
    _create_content()
    _create_feedback()
    _create_runs()
    _create_queue()
    for table in APPEND_ONLY:
        if op.get_context().dialect.name == "postgresql":
            _guard_postgresql(table)
        else:
            _guard_sqlite(table)


def _text(name: str, reference: str | None = None, *, nullable: bool = False) -> sa.Column[str]:
    keys = [sa.ForeignKey(reference)] if reference else []
    return sa.Column(name, sa.Text(), *keys, nullable=nullable)


def _integer(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=nullable)


def _create(name: str, *parts: Any) -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    key = sa.Column("number", number, primary_key=True, autoincrement=True)
    op.create_table(name, key, *parts, sqlite_autoincrement=True)


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))


def _create_content() -> None:
    _create(
        "prompts",
        _text("id"),
        _text("content"),
        _text("source"),
        _text("split"),
        _text("created"),
        sa.UniqueConstraint("id"),
    )
    _create(
        "samples",
        _text("id"),
        _text("prompt_id", "prompts.id"),
        _text("model", nullable=True),
        sa.Column("weights_version", sa.BigInteger(), nullable=False),
        _text("origin"),
        _text("header"),
        sa.Column("arrays", sa.LargeBinary(), nullable=False),
        _text("created"),
        sa.UniqueConstraint("id"),
    )
    _index("samples", "model")
    _index("samples", "prompt_id")


def _create_feedback() -> None:
    op.create_table("annotators", _text("name"), _text("created"), sa.PrimaryKeyConstraint("name"))
    _create(
        "annotator_versions",
        _text("annotator", "annotators.name"),
        _text("group"),
        _text("settings"),
        _text("created"),
    )
    _index("annotator_versions", "annotator")
    _create(
        "journal",
        _text("id"),
        _text("kind"),
        _text("annotator", "annotators.name"),
        _text("axis", nullable=True),
        _text("origin", nullable=True),
        _text("run", nullable=True),
        _integer("round", nullable=True),
        _text("retracts", "journal.id", nullable=True),
        _text("body"),
        _text("created"),
        sa.UniqueConstraint("id"),
        sa.UniqueConstraint("retracts"),
    )
    _index("journal", "annotator")
    _index("journal", "kind")
    _index("journal", "run", "round")
    _create("snapshots", _text("id"), _text("created"), sa.UniqueConstraint("id"))
    op.create_table(
        "snapshot_entries",
        _text("snapshot_id", "snapshots.id"),
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        _text("entry_id", "journal.id"),
        sa.PrimaryKeyConstraint("snapshot_id", "place"),
    )
    _index("snapshot_entries", "entry_id")


def _create_runs() -> None:
    _create(
        "models",
        _text("id"),
        _text("name"),
        _text("stage"),
        _text("path"),
        _text("parents"),
        _text("snapshot", "snapshots.id", nullable=True),
        _text("run", nullable=True),
        _text("recipe"),
        _text("metrics"),
        _text("created"),
        sa.UniqueConstraint("id"),
    )
    _index("models", "name")
    _index("models", "snapshot")
    _create(
        "runs",
        _text("id"),
        _text("name"),
        _text("recipe"),
        _text("version"),
        _text("status"),
        _text("created"),
        _text("finished", nullable=True),
        sa.UniqueConstraint("id"),
    )
    _create(
        "stages",
        _text("run", "runs.id"),
        _text("key"),
        _text("result", nullable=True),
        _text("created"),
        _text("finished", nullable=True),
        sa.UniqueConstraint("run", "key"),
    )
    _create(
        "metrics",
        _text("run", "runs.id"),
        _text("stage"),
        sa.Column("step", sa.BigInteger(), nullable=False),
        _text("name"),
        sa.Column("value", sa.Double(), nullable=True),
        sa.UniqueConstraint("run", "stage", "step", "name"),
    )


def _create_queue() -> None:
    _create(
        "tasks",
        _text("id"),
        _text("run"),
        _integer("round"),
        _text("kind"),
        _text("axis"),
        _text("sample_ids"),
        _integer("overlap"),
        sa.Column("closed", sa.Boolean(), nullable=False),
        _text("created"),
        sa.UniqueConstraint("id"),
    )
    _index("tasks", "run", "round")
    _index("tasks", "closed", "number")
    _create(
        "assignments",
        _text("task_id", "tasks.id"),
        _text("annotator", "annotators.name"),
        _text("state"),
        _integer("attempt"),
        _text("shown"),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("ended", sa.Double(), nullable=True),
        _text("entry_id", "journal.id", nullable=True),
        _text("reason", nullable=True),
        sa.UniqueConstraint("task_id", "annotator"),
    )
    _index("assignments", "annotator", "state")


def _guard_sqlite(table: str) -> None:
    """Refuse UPDATE and DELETE; INSERT OR REPLACE, which deletes unseen, keeps the old row."""
    for action in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
    same = {
        "journal": "number = NEW.number OR id = NEW.id OR retracts = NEW.retracts",
        "snapshots": "number = NEW.number OR id = NEW.id",
        "snapshot_entries": "snapshot_id = NEW.snapshot_id AND place = NEW.place",
    }[table]
    exists = f"SELECT 1 FROM {table} WHERE {same}"  # noqa: S608  (names from this file only)
    op.execute(
        f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "
        f"WHEN EXISTS ({exists}) BEGIN SELECT RAISE(IGNORE); END"
    )


def _guard_postgresql(table: str) -> None:
    """Refuse UPDATE, DELETE and TRUNCATE."""
    op.execute(
        f"CREATE FUNCTION {table}_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ "
        f"BEGIN RAISE EXCEPTION '{table} is append-only'; END $$"
    )
    for action, each in (("UPDATE OR DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
        name = f"{table}_no_{action.split()[0].lower()}"
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {action} ON {table} FOR EACH {each} "
            f"EXECUTE FUNCTION {table}_is_append_only()"
        )
