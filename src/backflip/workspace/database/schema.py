"""The tables, as the newest migration leaves them; a test holds the two together.

Text that people or models wrote is kept inside JSON, and JSON is escaped to ASCII: both databases
hold all of it. What is written into a `Kept` column has passed the door of `records.door`; what
stands in one is read as it is.
"""

import json
import math
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

from backflip.errors import DamageError
from backflip.records.door import KEPT_DEPTH, MAX_BYTES, check_json, whole_text
from backflip.records.feedback import DAMAGED

HEAD = "0003"
"""Revision of the newest migration."""
DOCTOR = "backflip doctor WORKSPACE says what is lost, and what a backup would bring back."

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
        if value is None:
            return None
        try:
            return json.loads(value)
        except (ValueError, TypeError, RecursionError) as error:
            return self._unreadable(error)

    def _unreadable(self, error: Exception) -> Any:
        raise _damaged("a value that is no JSON") from error


class Damaged:
    """Comes back in place of a value that cannot be read: somebody changed it from outside.

    It is no value of any type, so that nothing is made of it by mistake.
    """


class Shown(Json):
    """JSON for pages, which show what they can: what cannot be read is `Damaged`."""

    cache_ok = True

    def _unreadable(self, error: Exception) -> Damaged:
        return Damaged()


def as_text(value: Any) -> str:
    """A text for a page, or a word that says that it cannot be read."""
    return whole_text(value) if isinstance(value, str) else DAMAGED


def as_object(value: Any) -> dict[str, Any]:
    """An object as it was stored; an empty one where it cannot be read."""
    return value if isinstance(value, dict) else {}


class UnfitError(ValueError):
    """A value that a column does not keep."""


class Kept(Shown):
    """JSON of what people, models and files say: whole texts, numbers in range, bounded depth.

    Args:
        what: stands there, for who has it refused.
        max_bytes: of its texts together; None for no limit.
    """

    cache_ok = True

    def __init__(self, what: str, max_bytes: int | None = MAX_BYTES):
        super().__init__()
        self.what = what
        self.max_bytes = max_bytes

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        try:
            check_json(value, depth=KEPT_DEPTH, max_bytes=self.max_bytes)
        except ValueError as error:
            raise UnfitError(f"{self.what} cannot be kept: {error}") from None
        return super().process_bind_param(value, dialect)


class Moment(TypeDecorator[datetime]):
    """A point in time as ISO 8601 text in UTC, which sorts as it should."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        try:
            return datetime.fromisoformat(value)
        except (ValueError, TypeError) as error:
            raise _damaged("a moment that is none") from error


class Real(TypeDecorator[float]):
    """A float whose NaN is stored as NULL: SQLite has no NaN, and a diverged loss is no gap."""

    impl = sa.Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: sa.Dialect) -> float | None:
        return None if value is None or math.isnan(value) else float(value)

    def process_result_value(self, value: float | None, dialect: sa.Dialect) -> float:
        return math.nan if value is None else value


def _damaged(what: str) -> DamageError:
    return DamageError(f"the database is damaged: it holds {what}", hint=DOCTOR)


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
    sa.Column("content", Kept("the prompt"), nullable=False),
    sa.Column("source", Kept("the source of a prompt"), nullable=False),
    _text("split"),
    _created(),
)

samples = _numbered(
    "samples",
    _text("id", unique=True),
    _text("prompt_id", sa.ForeignKey("prompts.id"), index=True),
    _text("model", nullable=True, index=True),
    sa.Column("weights_version", sa.BigInteger, nullable=False),
    sa.Column("origin", Kept("where a sample is from"), nullable=False),
    sa.Column("header", Kept("the sample"), nullable=False),
    sa.Column("arrays", sa.LargeBinary, nullable=False),
    _created(),
)

annotators = sa.Table("annotators", metadata, _text("name", primary_key=True), _created())

erasures = _numbered(
    "erasures",
    _text("annotator", sa.ForeignKey("annotators.name"), index=True),
    _text("run", nullable=True),  # NULL: all that the annotator said, in whichever run
    sa.Column("through", Number, nullable=False),  # up to this number of the journal
    _created(),
)

annotator_versions = _numbered(
    "annotator_versions",
    _text("annotator", sa.ForeignKey("annotators.name"), index=True),
    _text("group"),
    sa.Column("settings", Kept("the settings of an annotator"), nullable=False),
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
    sa.Column("body", Kept("what is said"), nullable=False),
    _created(),
    sa.Index(None, "run", "round", "number"),
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

model_annotators = sa.Table(
    "model_annotators",
    metadata,
    _text("model", sa.ForeignKey("models.id"), primary_key=True),
    _text("annotator", sa.ForeignKey("annotators.name"), primary_key=True),
    sa.Column("entries", sa.Integer, nullable=False),
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

projects = _numbered(
    "projects",
    _text("id", unique=True),
    _text("name", unique=True),
    sa.Column("settings", Kept("the rules of a project"), nullable=False),
    sa.Column("archived", sa.Boolean, nullable=False),
    _created(),
)

guidelines = _numbered(
    "guidelines",
    _text("project", sa.ForeignKey("projects.id")),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("text", Kept("the text of the instructions"), nullable=False),
    _text("author"),
    _created(),
    sa.UniqueConstraint("project", "version"),
)

batches = _numbered(
    "batches",
    _text("id", unique=True),
    _text("project", sa.ForeignKey("projects.id")),
    _text("run"),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("name", Kept("the name of a batch"), nullable=False),
    _text("purpose"),
    _text("state"),
    sa.Column("items", sa.Integer, nullable=False),
    sa.Column("wanted", sa.Integer, nullable=False),
    sa.Column("done", sa.Integer, nullable=False),
    sa.Column("skipped", sa.Integer, nullable=False),
    _created(),
    sa.UniqueConstraint("run", "round"),
    sa.Index(None, "project", "state"),
)

tasks = _numbered(
    "tasks",
    _text("id", unique=True),
    _text("run"),
    sa.Column("round", sa.Integer, nullable=False),
    _text("kind"),
    _text("axis"),
    sa.Column("sample_ids", Kept("the samples of a question"), nullable=False),
    sa.Column("overlap", sa.Integer, nullable=False),
    sa.Column("closed", sa.Boolean, nullable=False),
    _created(),
    sa.Column("batch", Number, sa.ForeignKey("batches.number"), nullable=True),
    sa.Column("expected", Kept("the right answer"), nullable=True),
    sa.Column("position", sa.Integer, nullable=True),
    sa.Index(None, "batch", "closed", "position"),
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
    _text("entry_id", sa.ForeignKey("journal.id"), nullable=True, index=True),
    sa.Column("reason", Kept("the reason"), nullable=True),
    sa.Column("began", sa.Double, nullable=True),
    sa.Column("guideline", sa.Integer, nullable=True),
    sa.Column("draft", Kept("the draft"), nullable=True),
    sa.UniqueConstraint("task_id", "annotator"),
    sa.Index(None, "annotator", "state", "ended"),
    sa.Index(None, "state", "expires"),
)

answer_extras = sa.Table(
    "answer_extras",
    metadata,
    _text("entry_id", sa.ForeignKey("journal.id"), primary_key=True),
    sa.Column(
        "assignment", Number, sa.ForeignKey("assignments.number"), nullable=False, index=True
    ),
)

contributions = sa.Table(
    "contributions",
    metadata,
    sa.Column(
        "batch",
        Number,
        sa.ForeignKey("batches.number"),
        primary_key=True,
        autoincrement=False,
    ),
    _text("annotator", sa.ForeignKey("annotators.name"), primary_key=True),
    sa.Column("done", sa.Integer, nullable=False),
    sa.Column("skipped", sa.Integer, nullable=False),
    sa.Index(None, "annotator"),
)

batch_hours = sa.Table(
    "batch_hours",
    metadata,
    sa.Column(
        "batch", Number, sa.ForeignKey("batches.number"), primary_key=True, autoincrement=False
    ),
    sa.Column("hour", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("done", sa.Integer, nullable=False),
)

secrets = sa.Table(
    "secrets", metadata, _text("name", primary_key=True), sa.Column("value", Json, nullable=False)
)

users = _numbered(
    "users",
    _text("id", unique=True),
    _text("name", unique=True),
    _text("annotator", sa.ForeignKey("annotators.name"), unique=True),
    _text("password", nullable=True),
    _text("subject", nullable=True, unique=True),
    sa.Column("admin", sa.Boolean, nullable=False),
    sa.Column("active", sa.Boolean, nullable=False),
    sa.Column("preferences", Kept("the preferences of a user"), nullable=False),
    _created(),
)

memberships = sa.Table(
    "memberships",
    metadata,
    _text("project", sa.ForeignKey("projects.id"), primary_key=True),
    _text("user", sa.ForeignKey("users.id"), primary_key=True, index=True),
    _text("role"),
)

unnamed = sa.Table(
    "unnamed",
    metadata,
    _text("project", sa.ForeignKey("projects.id"), primary_key=True),
    _text("user", sa.ForeignKey("users.id"), primary_key=True, index=True),
)

sessions = _numbered(
    "sessions",
    _text("hash", unique=True),
    _text("user", sa.ForeignKey("users.id"), index=True),
    _text("csrf"),
    sa.Column("expires", sa.Double, nullable=False),
    _created(),
)

tokens = _numbered(
    "tokens",
    _text("hash", unique=True),
    _text("user", sa.ForeignKey("users.id"), index=True),
    sa.Column("name", Kept("the name of a token"), nullable=False),
    _created(),
)

invites = _numbered(
    "invites",
    _text("hash", unique=True),
    _text("project", sa.ForeignKey("projects.id"), nullable=True, index=True),
    _text("role"),
    sa.Column("uses", sa.Integer, nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
    _text("author", nullable=True),
    _created(),
)

login_failures = _numbered(
    "login_failures",
    _text("key"),
    sa.Column("at", sa.Double, nullable=False),
    sa.Index(None, "key", "at"),
)

generations = _numbered(
    "generations",
    _text("id", unique=True),
    _text("user", sa.ForeignKey("users.id"), index=True),
    _text("project", sa.ForeignKey("projects.id"), nullable=True),
    _text("purpose"),
    _text("model"),
    _text("prompt_id", index=True),
    sa.Column("prompt", Kept("the prompt"), nullable=False),
    sa.Column("settings", Kept("how a reply is drawn"), nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("index", sa.Integer, nullable=False),
    _text("state", index=True),
    sa.Column("text", Shown, nullable=False),
    _text("sample_id", sa.ForeignKey("samples.id"), nullable=True),
    sa.Column("truncated", sa.Boolean, nullable=True),
    sa.Column("error", Shown, nullable=True),
    _text("worker", nullable=True),
    sa.Column("lost", sa.Integer, nullable=False),
    _created(),
)

workers = sa.Table(
    "workers",
    metadata,
    _text("name", primary_key=True),
    sa.Column("beat", sa.Double, nullable=False),
)

reports = sa.Table(
    "reports",
    metadata,
    _text("project", sa.ForeignKey("projects.id"), primary_key=True),
    sa.Column("wanted", sa.Boolean, nullable=False),
    sa.Column("body", Json, nullable=True),
    sa.Column("made", Moment, nullable=True),
)

reward_scores = sa.Table(
    "reward_scores",
    metadata,
    _text("run", sa.ForeignKey("runs.id"), primary_key=True),
    _text("axis", primary_key=True),
    _text("sample_id", sa.ForeignKey("samples.id"), primary_key=True),
    sa.Column("score", sa.Double, nullable=False),
    sa.Column("heldout", sa.Boolean, nullable=False),
)

servers = sa.Table(
    "servers",
    metadata,
    _text("address", primary_key=True),
    sa.Column("beat", sa.Double, nullable=False),
)

chats = _numbered(
    "chats",
    _text("id", unique=True),
    _text("project", sa.ForeignKey("projects.id")),
    _text("user", sa.ForeignKey("users.id"), index=True),
    _text("model"),
    sa.Column("turns", Kept("a turn of the chat", max_bytes=None), nullable=False),
    _text("state"),
    _created(),
)

webhooks = _numbered(
    "webhooks",
    _text("id", unique=True),
    _text("project", sa.ForeignKey("projects.id"), index=True),
    sa.Column("url", Kept("the address of a webhook"), nullable=False),
    _text("secret"),
    sa.Column("events", Kept("the events of a webhook"), nullable=False),
    sa.Column("active", sa.Boolean, nullable=False),
    _created(),
)

deliveries = _numbered(
    "deliveries",
    _text("webhook", sa.ForeignKey("webhooks.id"), index=True),
    _text("event"),
    sa.Column("body", Json, nullable=False),
    _text("state"),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due", sa.Double, nullable=False),
    sa.Column("told", Json, nullable=True),
    _created(),
    sa.Index(None, "state", "due"),
)
