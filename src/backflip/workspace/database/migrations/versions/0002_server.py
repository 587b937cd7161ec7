"""Tables of the labelling server: projects, batches, users, generations, webhooks, erasures.

Tasks that were put up before belong to batches of a first project, and what each person did in a
batch is counted once here and kept up to date with every answer from then on.

The journal stays append-only but for one thing: the body of a row may be changed whose annotator
has an erasure. All else of the row is refused as before, and so is to delete it.
"""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_projects()
    _extend_queue()
    _create_people()
    _create_generations()
    _create_webhooks()
    _create_erasures()
    _move_tasks()


def _text(name: str, reference: str | None = None, *, nullable: bool = False) -> sa.Column[str]:
    keys = [sa.ForeignKey(reference)] if reference else []
    return sa.Column(name, sa.Text(), *keys, nullable=nullable)


def _integer(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False)


def _double(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double(), nullable=nullable)


def _boolean(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _number() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _create(name: str, *parts: Any) -> None:
    key = sa.Column("number", _number(), primary_key=True, autoincrement=True)
    op.create_table(name, key, *parts, sqlite_autoincrement=True)


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))


def _create_projects() -> None:
    _create(
        "projects",
        _text("id"),
        _text("name"),
        _text("settings"),
        _boolean("archived"),
        _text("created"),
        sa.UniqueConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    _create(
        "guidelines",
        _text("project", "projects.id"),
        _integer("version"),
        _text("text"),
        _text("author"),
        _text("created"),
        sa.UniqueConstraint("project", "version"),
    )
    _create(
        "batches",
        _text("id"),
        _text("project", "projects.id"),
        _text("run"),
        _integer("round"),
        _text("name"),
        _text("purpose"),
        _text("state"),
        _integer("items"),
        _integer("wanted"),
        _integer("done"),
        _integer("skipped"),
        _text("created"),
        sa.UniqueConstraint("id"),
        sa.UniqueConstraint("run", "round"),
    )
    _index("batches", "project", "state")
    op.create_table(
        "contributions",
        sa.Column(
            "batch", _number(), sa.ForeignKey("batches.number"), nullable=False, autoincrement=False
        ),
        _text("annotator", "annotators.name"),
        _integer("done"),
        _integer("skipped"),
        sa.PrimaryKeyConstraint("batch", "annotator"),
    )
    _index("contributions", "annotator")
    op.create_table(
        "batch_hours",
        sa.Column(
            "batch", _number(), sa.ForeignKey("batches.number"), nullable=False, autoincrement=False
        ),
        sa.Column("hour", sa.Integer(), nullable=False, autoincrement=False),
        _integer("done"),
        sa.PrimaryKeyConstraint("batch", "hour"),
    )


def _extend_queue() -> None:
    op.drop_index("ix_journal_run_round", "journal")
    _index("journal", "run", "round", "number")
    number = "BIGINT" if op.get_context().dialect.name == "postgresql" else "INTEGER"
    op.execute(
        f"ALTER TABLE tasks ADD COLUMN batch {number} "
        "CONSTRAINT fk_tasks_batch_batches REFERENCES batches (number)"
    )
    op.add_column("tasks", _text("expected", nullable=True))
    op.add_column("tasks", sa.Column("position", sa.Integer(), nullable=True))
    op.drop_index("ix_tasks_run_round", "tasks")
    op.drop_index("ix_tasks_closed_number", "tasks")
    _index("tasks", "batch", "closed", "position")
    op.add_column("assignments", _double("began", nullable=True))
    op.add_column("assignments", sa.Column("guideline", sa.Integer(), nullable=True))
    op.add_column("assignments", _text("draft", nullable=True))
    op.drop_index("ix_assignments_annotator_state", "assignments")
    _index("assignments", "annotator", "state", "ended")
    _index("assignments", "state", "expires")
    _index("assignments", "entry_id")
    op.create_table(
        "answer_extras",
        _text("entry_id", "journal.id"),
        sa.Column("assignment", _number(), sa.ForeignKey("assignments.number"), nullable=False),
        sa.PrimaryKeyConstraint("entry_id"),
    )
    _index("answer_extras", "assignment")


def _create_people() -> None:
    op.create_table("secrets", _text("name"), _text("value"), sa.PrimaryKeyConstraint("name"))
    _create(
        "users",
        _text("id"),
        _text("name"),
        _text("annotator", "annotators.name"),
        _text("password", nullable=True),
        _text("subject", nullable=True),
        _boolean("admin"),
        _boolean("active"),
        _text("preferences"),
        _text("created"),
        sa.UniqueConstraint("id"),
        sa.UniqueConstraint("name"),
        sa.UniqueConstraint("annotator"),
        sa.UniqueConstraint("subject"),
    )
    op.create_table(
        "memberships",
        _text("project", "projects.id"),
        _text("user", "users.id"),
        _text("role"),
        sa.PrimaryKeyConstraint("project", "user"),
    )
    _index("memberships", "user")
    _create(
        "sessions",
        _text("hash"),
        _text("user", "users.id"),
        _text("csrf"),
        _double("expires"),
        _text("created"),
        sa.UniqueConstraint("hash"),
    )
    _index("sessions", "user")
    _create(
        "tokens",
        _text("hash"),
        _text("user", "users.id"),
        _text("name"),
        _text("created"),
        sa.UniqueConstraint("hash"),
    )
    _index("tokens", "user")
    _create(
        "invites",
        _text("hash"),
        _text("project", "projects.id", nullable=True),
        _text("role"),
        _integer("uses"),
        _double("expires"),
        _text("author", nullable=True),
        _text("created"),
        sa.UniqueConstraint("hash"),
    )
    _index("invites", "project")
    _create("login_failures", _text("key"), _double("at"))
    _index("login_failures", "key", "at")


def _create_generations() -> None:
    _create(
        "generations",
        _text("id"),
        _text("user", "users.id"),
        _text("project", "projects.id", nullable=True),
        _text("purpose"),
        _text("model"),
        _text("prompt_id"),
        _text("prompt"),
        _text("settings"),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        _integer("index"),
        _text("state"),
        _text("text"),
        _text("sample_id", "samples.id", nullable=True),
        sa.Column("truncated", sa.Boolean(), nullable=True),
        _text("error", nullable=True),
        _text("worker", nullable=True),
        _integer("lost"),
        _text("created"),
        sa.UniqueConstraint("id"),
    )
    _index("generations", "user")
    _index("generations", "state")
    _index("generations", "prompt_id")
    op.create_table("workers", _text("name"), _double("beat"), sa.PrimaryKeyConstraint("name"))
    op.create_table(
        "reports",
        _text("project", "projects.id"),
        _boolean("wanted"),
        _text("body", nullable=True),
        _text("made", nullable=True),
        sa.PrimaryKeyConstraint("project"),
    )
    op.create_table(
        "reward_scores",
        _text("run", "runs.id"),
        _text("axis"),
        _text("sample_id", "samples.id"),
        _double("score"),
        _boolean("heldout"),
        sa.PrimaryKeyConstraint("run", "axis", "sample_id"),
    )
    op.create_table(
        "servers", _text("address"), _double("beat"), sa.PrimaryKeyConstraint("address")
    )
    _create(
        "chats",
        _text("id"),
        _text("project", "projects.id"),
        _text("user", "users.id"),
        _text("model"),
        _text("turns"),
        _text("state"),
        _text("created"),
        sa.UniqueConstraint("id"),
    )
    _index("chats", "user")


def _create_webhooks() -> None:
    _create(
        "webhooks",
        _text("id"),
        _text("project", "projects.id"),
        _text("url"),
        _text("secret"),
        _text("events"),
        _boolean("active"),
        _text("created"),
        sa.UniqueConstraint("id"),
    )
    _index("webhooks", "project")
    _create(
        "deliveries",
        _text("webhook", "webhooks.id"),
        _text("event"),
        _text("body"),
        _text("state"),
        _integer("attempts"),
        _double("due"),
        _text("told", nullable=True),
        _text("created"),
    )
    _index("deliveries", "webhook")
    _index("deliveries", "state", "due")


KEPT = [
    "number",
    "id",
    "kind",
    "annotator",
    "axis",
    "origin",
    "run",
    "round",
    "retracts",
    "created",
]
"""Columns of the journal that nothing changes: all but the body."""


def _create_erasures() -> None:
    op.create_table(
        "erasures",
        _text("annotator", "annotators.name"),
        _text("created"),
        sa.PrimaryKeyConstraint("annotator"),
    )
    erased = "EXISTS (SELECT 1 FROM erasures WHERE annotator = OLD.annotator)"
    if op.get_context().dialect.name != "postgresql":
        same = " AND ".join(f"NEW.{name} IS OLD.{name}" for name in KEPT)
        op.execute("DROP TRIGGER journal_no_update")
        op.execute(
            f"CREATE TRIGGER journal_no_update BEFORE UPDATE ON journal "
            f"WHEN NOT ({erased} AND {same}) "
            "BEGIN SELECT RAISE(ABORT, 'journal is append-only'); END"
        )
        return
    new, old = (", ".join(f"{row}.{name}" for name in KEPT) for row in ("NEW", "OLD"))
    op.execute("DROP TRIGGER journal_no_update ON journal")
    op.execute(
        "CREATE FUNCTION journal_is_only_erased() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF {erased} AND ROW({new}) IS NOT DISTINCT FROM ROW({old}) THEN RETURN NEW; END IF; "
        "RAISE EXCEPTION 'journal is append-only'; END $$"
    )
    for action, function in (("update", "is_only_erased"), ("delete", "is_append_only")):
        op.execute(
            f"CREATE TRIGGER journal_no_{action} BEFORE {action.upper()} ON journal "
            f"FOR EACH ROW EXECUTE FUNCTION journal_{function}()"
        )


def _move_tasks() -> None:
    """Every round that was put up becomes a batch of a project "Main", with its counts."""
    connection = op.get_bind()
    rounds = connection.execute(
        sa.text(
            "SELECT run, round, COUNT(*), SUM(overlap), MIN(created) FROM tasks "
            "GROUP BY run, round ORDER BY MIN(number)"
        )
    ).all()
    if not rounds:
        return
    created = min(row[4] for row in rounds)
    connection.execute(
        sa.text(
            "INSERT INTO projects (id, name, settings, archived, created) "
            "VALUES ('main', 'Main', '{}', :no, :created)"
        ),
        {"no": False, "created": created},
    )
    for run, round_, items, wanted, began in rounds:
        known = {"run": run, "round": round_}
        counts = {
            state: connection.execute(
                sa.text(
                    "SELECT COUNT(*) FROM assignments JOIN tasks ON tasks.id = task_id "
                    "WHERE run = :run AND round = :round AND state = :state"
                ),
                known | {"state": state},
            ).scalar_one()
            for state in ("done", "skipped")
        }
        connection.execute(
            sa.text(
                "INSERT INTO batches (id, project, run, round, name, purpose, state, items, "
                "wanted, done, skipped, created) VALUES (:id, 'main', :run, :round, :name, "
                "'labels', 'open', :items, :wanted, :done, :skipped, :began)"
            ),
            known
            | counts
            | {"id": f"{run}/{round_}", "name": json.dumps(f"{run}, round {round_}")}
            | {"items": items, "wanted": wanted, "began": began},
        )
    connection.execute(
        sa.text(
            "UPDATE tasks SET position = number, batch = (SELECT number FROM batches "
            "WHERE batches.run = tasks.run AND batches.round = tasks.round)"
        )
    )
    connection.execute(
        sa.text(
            "INSERT INTO contributions (batch, annotator, done, skipped) "
            "SELECT batch, annotator, SUM(CASE WHEN state = 'done' THEN 1 ELSE 0 END), "
            "SUM(CASE WHEN state = 'skipped' THEN 1 ELSE 0 END) "
            "FROM assignments JOIN tasks ON tasks.id = task_id "
            "WHERE state <> 'leased' GROUP BY batch, annotator"
        )
    )
    hour = "CAST(ended / 3600 AS INTEGER)"
    if op.get_context().dialect.name == "postgresql":
        hour = "CAST(FLOOR(ended / 3600) AS INTEGER)"  # a cast alone would round
    connection.execute(
        sa.text(
            f"INSERT INTO batch_hours (batch, hour, done) SELECT batch, {hour}, COUNT(*) "  # noqa: S608
            "FROM assignments JOIN tasks ON tasks.id = task_id "
            f"WHERE state = 'done' GROUP BY batch, {hour}"
        )
    )
