"""The tables, as the newest migration leaves them; a test holds the two together.

Text that people or models wrote is kept inside JSON: escaped to ASCII there, so that a NUL or a
lone surrogate, which PostgreSQL's text refuses, comes back as it was.
"""

import json
import math
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

HEAD = "0001"
"""Revision of the newest migration."""

Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


class Json(TypeDecorator[Any]):
    """Any JSON value as ASCII text with sorted keys; NaN and infinities as Python writes them."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        return None if value is None else canonical(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        return None if value is None else json.loads(value)


class Moment(TypeDecorator[datetime]):
    """A point in time as ISO 8601 text in UTC, which sorts as it should."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


class Real(TypeDecorator[float]):
    """A float whose NaN is stored as NULL: SQLite has no NaN, and a diverged loss is no gap."""

    impl = sa.Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: sa.Dialect) -> float | None:
        return None if value is None or math.isnan(value) else float(value)

    def process_result_value(self, value: float | None, dialect: sa.Dialect) -> float:
        return math.nan if value is None else value


def canonical(value: Any) -> str:
    """JSON with one spelling for one value, so that equal values have equal hashes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _numbered(name: str, *parts: Any) -> sa.Table:
    """A table whose rows keep the order they came in."""
    number = sa.Column("number", Number, primary_key=True, autoincrement=True)
    return sa.Table(name, metadata, number, *parts, sqlite_autoincrement=True)


def _text(name: str, *parts: Any, nullable: bool = False, **kw: Any) -> sa.Column[str]:
    return sa.Column(name, sa.Text, *parts, nullable=nullable, **kw)


def _created() -> sa.Column[datetime]:
    return sa.Column("created", Moment, nullable=False)


prompts = _numbered(
    "prompts",
    _text("id", unique=True),
    sa.Column("content", Json, nullable=False),
    sa.Column("source", Json, nullable=False),
    _text("split"),
    _created(),
)

samples = _numbered(
    "samples",
    _text("id", unique=True),
    _text("prompt_id", sa.ForeignKey("prompts.id"), index=True),
    _text("model", nullable=True, index=True),
    sa.Column("weights_version", sa.BigInteger, nullable=False),
    sa.Column("origin", Json, nullable=False),
    sa.Column("header", Json, nullable=False),
    sa.Column("arrays", sa.LargeBinary, nullable=False),
    _created(),
)

annotators = sa.Table("annotators", metadata, _text("name", primary_key=True), _created())

annotator_versions = _numbered(
    "annotator_versions",
    _text("annotator", sa.ForeignKey("annotators.name"), index=True),
    _text("group"),
    sa.Column("settings", Json, nullable=False),
    _created(),
)

journal = _numbered(
    "journal",
    _text("id", unique=True),
    _text("kind", index=True),
    _text("annotator", sa.ForeignKey("annotators.name"), index=True),
    _text("axis", nullable=True),
    _text("origin", nullable=True),
    _text("run", nullable=True),
    sa.Column("round", sa.Integer, nullable=True),
    _text("retracts", sa.ForeignKey("journal.id"), nullable=True, unique=True),
    sa.Column("body", Json, nullable=False),
    _created(),
    sa.Index(None, "run", "round"),
)

snapshots = _numbered("snapshots", _text("id", unique=True), _created())

snapshot_entries = sa.Table(
    "snapshot_entries",
    metadata,
    _text("snapshot_id", sa.ForeignKey("snapshots.id"), primary_key=True),
    sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
    _text("entry_id", sa.ForeignKey("journal.id"), index=True),
)

models = _numbered(
    "models",
    _text("id", unique=True),
    _text("name", index=True),
    _text("stage"),
    sa.Column("path", Json, nullable=False),
    sa.Column("parents", Json, nullable=False),
    _text("snapshot", sa.ForeignKey("snapshots.id"), nullable=True, index=True),
    _text("run", nullable=True),
    sa.Column("recipe", Json, nullable=False),
    sa.Column("metrics", Json, nullable=False),
    _created(),
)

runs = _numbered(
    "runs",
    _text("id", unique=True),
    _text("name"),
    sa.Column("recipe", Json, nullable=False),
    _text("version"),
    _text("status"),
    _created(),
    sa.Column("finished", Moment, nullable=True),
)

stages = _numbered(
    "stages",
    _text("run", sa.ForeignKey("runs.id")),
    _text("key"),
    sa.Column("result", Json, nullable=True),
    _created(),
    sa.Column("finished", Moment, nullable=True),
    sa.UniqueConstraint("run", "key"),
)

metrics = _numbered(
    "metrics",
    _text("run", sa.ForeignKey("runs.id")),
    _text("stage"),
    sa.Column("step", sa.BigInteger, nullable=False),
    _text("name"),
    sa.Column("value", Real, nullable=True),
    sa.UniqueConstraint("run", "stage", "step", "name"),
)

tasks = _numbered(
    "tasks",
    _text("id", unique=True),
    _text("run"),
    sa.Column("round", sa.Integer, nullable=False),
    _text("kind"),
    _text("axis"),
    sa.Column("sample_ids", Json, nullable=False),
    sa.Column("overlap", sa.Integer, nullable=False),
    sa.Column("closed", sa.Boolean, nullable=False),
    _created(),
    sa.Index(None, "run", "round"),
    sa.Index(None, "closed", "number"),
)

assignments = _numbered(
    "assignments",
    _text("task_id", sa.ForeignKey("tasks.id")),
    _text("annotator", sa.ForeignKey("annotators.name")),
    _text("state"),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("shown", Json, nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
    sa.Column("ended", sa.Double, nullable=True),
    _text("entry_id", sa.ForeignKey("journal.id"), nullable=True),
    sa.Column("reason", Json, nullable=True),
    sa.UniqueConstraint("task_id", "annotator"),
    sa.Index(None, "annotator", "state"),
)
