"""What a lead decides about somebody who leaves a project, and who stands behind each model.

An erasure is of what was said until then, and may be of one run only; a project need not name who
was in it. How many answers of whom a model was made from is counted once.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

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
ERASED = (
    "EXISTS (SELECT 1 FROM erasures AS e WHERE e.annotator = OLD.annotator "
    "AND OLD.number <= e.through AND (e.run IS NULL OR e.run = OLD.run))"
)


def upgrade() -> None:
    postgresql = op.get_context().dialect.name == "postgresql"
    if not postgresql:
        op.execute("DROP TRIGGER journal_no_update")  # it names the table that is replaced
    _replace_erasures(postgresql)
    _guard_journal(postgresql)
    op.create_table(
        "unnamed",
        sa.Column("project", sa.Text(), sa.ForeignKey("projects.id"), nullable=False),
        sa.Column("user", sa.Text(), sa.ForeignKey("users.id"), nullable=False),
        sa.PrimaryKeyConstraint("project", "user"),
    )
    op.create_index("ix_unnamed_user", "unnamed", ["user"])
    _count_annotators()


def _replace_erasures(postgresql: bool) -> None:
    connection = op.get_bind()
    known = connection.execute(sa.text("SELECT annotator, created FROM erasures")).mappings().all()
    op.drop_table("erasures")
    number = sa.BigInteger() if postgresql else sa.Integer()
    op.create_table(
        "erasures",
        sa.Column("number", number, primary_key=True, autoincrement=True),
        sa.Column("annotator", sa.Text(), sa.ForeignKey("annotators.name"), nullable=False),
        sa.Column("run", sa.Text(), nullable=True),
        sa.Column("through", number, nullable=False),
        sa.Column("created", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_erasures_annotator", "erasures", ["annotator"])
    if known:
        put = (
            "INSERT INTO erasures (annotator, through, created) "
            "SELECT :annotator, COALESCE(MAX(number), 0), :created FROM journal"
        )
        connection.execute(sa.text(put), [dict(row) for row in known])


def _count_annotators() -> None:
    op.create_table(
        "model_annotators",
        sa.Column("model", sa.Text(), sa.ForeignKey("models.id"), nullable=False),
        sa.Column("annotator", sa.Text(), sa.ForeignKey("annotators.name"), nullable=False),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("model", "annotator"),
    )
    connection = op.get_bind()
    count = sa.text(
        "INSERT INTO model_annotators (model, annotator, entries) "
        "SELECT :model, j.annotator, COUNT(DISTINCT e.entry_id) FROM snapshot_entries AS e "
        "JOIN journal AS j ON j.id = e.entry_id WHERE e.snapshot_id IN :snapshots "
        "GROUP BY j.annotator"
    ).bindparams(sa.bindparam("snapshots", expanding=True))
    models = sa.text("SELECT id, parents, snapshot FROM models ORDER BY number")
    behind: dict[str, set[str]] = {}  # parents come before their children
    for name, parents, snapshot in connection.execute(models).all():
        found = {snapshot} - {None}
        behind[name] = found.union(*(behind.get(parent, ()) for parent in json.loads(parents)))
        if behind[name]:
            connection.execute(count, {"model": name, "snapshots": list(behind[name])})


def _guard_journal(postgresql: bool) -> None:
    if not postgresql:
        same = " AND ".join(f"NEW.{name} IS OLD.{name}" for name in KEPT)
        op.execute(
            f"CREATE TRIGGER journal_no_update BEFORE UPDATE ON journal "
            f"WHEN NOT ({ERASED} AND {same}) "
            "BEGIN SELECT RAISE(ABORT, 'journal is append-only'); END"
        )
        return
    new, old = (", ".join(f"{row}.{name}" for name in KEPT) for row in ("NEW", "OLD"))
    op.execute(
        "CREATE OR REPLACE FUNCTION journal_is_only_erased() RETURNS trigger LANGUAGE plpgsql "
        f"AS $$ BEGIN IF {ERASED} AND ROW({new}) IS NOT DISTINCT FROM ROW({old}) "
        "THEN RETURN NEW; END IF; RAISE EXCEPTION 'journal is append-only'; END $$"
    )
