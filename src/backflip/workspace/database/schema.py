"""The tables, as the newest migration leaves them; a test holds the two together."""

import sqlalchemy as sa

from backflip.workspace.database.columns import (
    Json,
    Kept,
    Moment,
    Number,
    Real,
    Shown,
    created,
    metadata,
    numbered,
    text,
)

HEAD = "0003"
"""Revision of the newest migration."""

prompts = numbered(
    "prompts",
    text("id", unique=True),
    sa.Column("content", Kept("the prompt"), nullable=False),
    sa.Column("source", Kept("the source of a prompt"), nullable=False),
    text("split"),
    created(),
)

samples = numbered(
    "samples",
    text("id", unique=True),
    text("prompt_id", sa.ForeignKey("prompts.id"), index=True),
    text("model", nullable=True, index=True),
    sa.Column("weights_version", sa.BigInteger, nullable=False),
    sa.Column("origin", Kept("where a sample is from"), nullable=False),
    sa.Column("header", Kept("the sample"), nullable=False),
    sa.Column("arrays", sa.LargeBinary, nullable=False),
    created(),
)

annotators = sa.Table("annotators", metadata, text("name", primary_key=True), created())

erasures = numbered(
    "erasures",
    text("annotator", sa.ForeignKey("annotators.name"), index=True),
    text("run", nullable=True),  # NULL: all that the annotator said, in whichever run
    sa.Column("through", Number, nullable=False),  # up to this number of the journal
    created(),
)

annotator_versions = numbered(
    "annotator_versions",
    text("annotator", sa.ForeignKey("annotators.name"), index=True),
    text("group"),
    sa.Column("settings", Kept("the settings of an annotator"), nullable=False),
    created(),
)

journal = numbered(
    "journal",
    text("id", unique=True),
    text("kind", index=True),
    text("annotator", sa.ForeignKey("annotators.name"), index=True),
    text("axis", nullable=True),
    text("origin", nullable=True),
    text("run", nullable=True),
    sa.Column("round", sa.Integer, nullable=True),
    text("retracts", sa.ForeignKey("journal.id"), nullable=True, unique=True),
    sa.Column("body", Kept("what is said"), nullable=False),
    created(),
    sa.Index(None, "run", "round", "number"),
)

snapshots = numbered("snapshots", text("id", unique=True), created())

snapshot_entries = sa.Table(
    "snapshot_entries",
    metadata,
    text("snapshot_id", sa.ForeignKey("snapshots.id"), primary_key=True),
    sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
    text("entry_id", sa.ForeignKey("journal.id"), index=True),
)

models = numbered(
    "models",
    text("id", unique=True),
    text("name", index=True),
    text("stage"),
    sa.Column("path", Shown, nullable=False),
    sa.Column("parents", Shown, nullable=False),
    text("snapshot", sa.ForeignKey("snapshots.id"), nullable=True, index=True),
    text("run", nullable=True),
    sa.Column("recipe", Shown, nullable=False),
    sa.Column("metrics", Shown, nullable=False),
    created(),
)

model_annotators = sa.Table(
    "model_annotators",
    metadata,
    text("model", sa.ForeignKey("models.id"), primary_key=True),
    text("annotator", sa.ForeignKey("annotators.name"), primary_key=True),
    sa.Column("entries", sa.Integer, nullable=False),
)

runs = numbered(
    "runs",
    text("id", unique=True),
    text("name"),
    sa.Column("recipe", Json, nullable=False),
    text("version"),
    text("status"),
    created(),
    sa.Column("finished", Moment, nullable=True),
)

stages = numbered(
    "stages",
    text("run", sa.ForeignKey("runs.id")),
    text("key"),
    sa.Column("result", Json, nullable=True),
    created(),
    sa.Column("finished", Moment, nullable=True),
    sa.UniqueConstraint("run", "key"),
)

metrics = numbered(
    "metrics",
    text("run", sa.ForeignKey("runs.id")),
    text("stage"),
    sa.Column("step", sa.BigInteger, nullable=False),
    text("name"),
    sa.Column("value", Real, nullable=True),
    sa.UniqueConstraint("run", "stage", "step", "name"),
)

projects = numbered(
    "projects",
    text("id", unique=True),
    text("name", unique=True),
    sa.Column("settings", Kept("the rules of a project"), nullable=False),
    sa.Column("archived", sa.Boolean, nullable=False),
    created(),
)

guidelines = numbered(
    "guidelines",
    text("project", sa.ForeignKey("projects.id")),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("text", Kept("the text of the instructions"), nullable=False),
    text("author"),
    created(),
    sa.UniqueConstraint("project", "version"),
)

batches = numbered(
    "batches",
    text("id", unique=True),
    text("project", sa.ForeignKey("projects.id")),
    text("run"),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("name", Kept("the name of a batch"), nullable=False),
    text("purpose"),
    text("state"),
    sa.Column("items", sa.Integer, nullable=False),
    sa.Column("wanted", sa.Integer, nullable=False),
    sa.Column("done", sa.Integer, nullable=False),
    sa.Column("skipped", sa.Integer, nullable=False),
    created(),
    sa.UniqueConstraint("run", "round"),
    sa.Index(None, "project", "state"),
)

tasks = numbered(
    "tasks",
    text("id", unique=True),
    text("run"),
    sa.Column("round", sa.Integer, nullable=False),
    text("kind"),
    text("axis"),
    sa.Column("sample_ids", Kept("the samples of a question"), nullable=False),
    sa.Column("overlap", sa.Integer, nullable=False),
    sa.Column("closed", sa.Boolean, nullable=False),
    created(),
    sa.Column("batch", Number, sa.ForeignKey("batches.number"), nullable=True),
    sa.Column("expected", Kept("the right answer"), nullable=True),
    sa.Column("position", sa.Integer, nullable=True),
    sa.Index(None, "batch", "closed", "position"),
)

assignments = numbered(
    "assignments",
    text("task_id", sa.ForeignKey("tasks.id")),
    text("annotator", sa.ForeignKey("annotators.name")),
    text("state"),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("shown", Json, nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
    sa.Column("ended", sa.Double, nullable=True),
    text("entry_id", sa.ForeignKey("journal.id"), nullable=True, index=True),
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
    text("entry_id", sa.ForeignKey("journal.id"), primary_key=True),
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
    text("annotator", sa.ForeignKey("annotators.name"), primary_key=True),
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
    "secrets", metadata, text("name", primary_key=True), sa.Column("value", Json, nullable=False)
)

users = numbered(
    "users",
    text("id", unique=True),
    text("name", unique=True),
    text("annotator", sa.ForeignKey("annotators.name"), unique=True),
    text("password", nullable=True),
    text("subject", nullable=True, unique=True),
    sa.Column("admin", sa.Boolean, nullable=False),
    sa.Column("active", sa.Boolean, nullable=False),
    sa.Column("preferences", Kept("the preferences of a user"), nullable=False),
    created(),
)

memberships = sa.Table(
    "memberships",
    metadata,
    text("project", sa.ForeignKey("projects.id"), primary_key=True),
    text("user", sa.ForeignKey("users.id"), primary_key=True, index=True),
    text("role"),
)

unnamed = sa.Table(
    "unnamed",
    metadata,
    text("project", sa.ForeignKey("projects.id"), primary_key=True),
    text("user", sa.ForeignKey("users.id"), primary_key=True, index=True),
)

sessions = numbered(
    "sessions",
    text("hash", unique=True),
    text("user", sa.ForeignKey("users.id"), index=True),
    text("csrf"),
    sa.Column("expires", sa.Double, nullable=False),
    created(),
)

tokens = numbered(
    "tokens",
    text("hash", unique=True),
    text("user", sa.ForeignKey("users.id"), index=True),
    sa.Column("name", Kept("the name of a token"), nullable=False),
    created(),
)

invites = numbered(
    "invites",
    text("hash", unique=True),
    text("project", sa.ForeignKey("projects.id"), nullable=True, index=True),
    text("role"),
    sa.Column("uses", sa.Integer, nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
    text("author", nullable=True),
    created(),
)

login_failures = numbered(
    "login_failures",
    text("key"),
    sa.Column("at", sa.Double, nullable=False),
    sa.Index(None, "key", "at"),
)

generations = numbered(
    "generations",
    text("id", unique=True),
    text("user", sa.ForeignKey("users.id"), index=True),
    text("project", sa.ForeignKey("projects.id"), nullable=True),
    text("purpose"),
    text("model"),
    text("prompt_id", index=True),
    sa.Column("prompt", Kept("the prompt"), nullable=False),
    sa.Column("settings", Kept("how a reply is drawn"), nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("index", sa.Integer, nullable=False),
    text("state", index=True),
    sa.Column("text", Shown, nullable=False),
    text("sample_id", sa.ForeignKey("samples.id"), nullable=True),
    sa.Column("truncated", sa.Boolean, nullable=True),
    sa.Column("error", Shown, nullable=True),
    text("worker", nullable=True),
    sa.Column("lost", sa.Integer, nullable=False),
    created(),
)

workers = sa.Table(
    "workers",
    metadata,
    text("name", primary_key=True),
    sa.Column("beat", sa.Double, nullable=False),
)

reports = sa.Table(
    "reports",
    metadata,
    text("project", sa.ForeignKey("projects.id"), primary_key=True),
    sa.Column("wanted", sa.Boolean, nullable=False),
    sa.Column("body", Shown, nullable=True),
    sa.Column("made", Moment, nullable=True),
)

reward_scores = sa.Table(
    "reward_scores",
    metadata,
    text("run", sa.ForeignKey("runs.id"), primary_key=True),
    text("axis", primary_key=True),
    text("sample_id", sa.ForeignKey("samples.id"), primary_key=True),
    sa.Column("score", sa.Double, nullable=False),
    sa.Column("heldout", sa.Boolean, nullable=False),
)

servers = sa.Table(
    "servers",
    metadata,
    text("address", primary_key=True),
    sa.Column("beat", sa.Double, nullable=False),
)

chats = numbered(
    "chats",
    text("id", unique=True),
    text("project", sa.ForeignKey("projects.id")),
    text("user", sa.ForeignKey("users.id"), index=True),
    text("model"),
    sa.Column("turns", Kept("a turn of the chat", max_bytes=None), nullable=False),
    text("state"),
    created(),
)

webhooks = numbered(
    "webhooks",
    text("id", unique=True),
    text("project", sa.ForeignKey("projects.id"), index=True),
    sa.Column("url", Kept("the address of a webhook"), nullable=False),
    text("secret"),
    sa.Column("events", Kept("the events of a webhook"), nullable=False),
    sa.Column("active", sa.Boolean, nullable=False),
    created(),
)

deliveries = numbered(
    "deliveries",
    text("webhook", sa.ForeignKey("webhooks.id"), index=True),
    text("event"),
    sa.Column("body", Shown, nullable=False),
    text("state"),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due", sa.Double, nullable=False),
    sa.Column("told", Shown, nullable=True),
    created(),
    sa.Index(None, "state", "due"),
)
