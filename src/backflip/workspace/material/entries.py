"""Rows of the journal within a transaction: how they are added, taken back and found."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.engine import Connection

from backflip.errors import DamageError, NotFoundError, WorkspaceError
from backflip.records import content_id
from backflip.records.feedback import KINDS, FeedbackBase, parse_feedback
from backflip.records.feedback_checks import check_about, check_entry
from backflip.workspace.database import columns, schema
from backflip.workspace.database.engine import check_name, chunks, damage, insert_new
from backflip.workspace.material.annotators import groups_of, insert_annotators
from backflip.workspace.material.samples import about_samples

RETRACTION = "retraction"
_journal, _erasures = schema.journal, schema.erasures
_undoing = schema.journal.alias("undoing")
IS_FEEDBACK = _journal.c.kind != RETRACTION
IS_ACTIVE = sa.and_(
    IS_FEEDBACK, ~sa.exists().where(_undoing.c.retracts == _journal.c.id).correlate(_journal)
)
IS_ERASED = (
    sa.exists()
    .where(
        _erasures.c.annotator == _journal.c.annotator,
        _erasures.c.through >= _journal.c.number,
        sa.or_(_erasures.c.run.is_(None), _erasures.c.run == _journal.c.run),
    )
    .correlate(_journal)
)
"""Whether the words of a row may have been erased."""


_IS_ACTIVE_BY_ID = sa.select(IS_ACTIVE.label("active")).where(_journal.c.id == sa.bindparam("id"))


def rows_with_erased() -> sa.Select[Any]:
    """All rows; beside its columns a row has `erased`: whether its words may have been erased."""
    return sa.select(_journal, IS_ERASED.label("erased"))


def append(
    connection: Connection,
    entries: Sequence[FeedbackBase],
    *,
    round: int | None = None,  # noqa: A002
    run: str | None = None,
    known: bool = False,
) -> list[str]:
    """`Journal.add` within a transaction that holds the locks "annotators" and "journal".

    `known` says that the caller is sure of the samples and the annotators: that they are there, and
    that the samples are of one prompt.

    Raises:
        WorkspaceError: an entry is not whole, or not of the samples that it names.
    """
    if run is not None:
        check_name(run, "the run's id")
    _check(connection, entries, known)
    if not known:
        insert_annotators(connection, groups_of((e.annotator, e.origin) for e in entries))
    new: list[str] = []
    for chunk in chunks(entries):
        rows = [
            {
                "id": entry.id,
                "kind": body["kind"],
                "annotator": entry.annotator,
                "axis": check_name(entry.axis, "the axis"),
                "origin": check_name(entry.origin, "the origin"),
                "run": run,
                "round": round,
                "body": body,
                "created": columns.now(),
            }
            for entry, body in ((entry, entry.model_dump(mode="json")) for entry in chunk)
        ]
        new += insert_new(connection, _journal, rows)
    return new


def _check(connection: Connection, entries: Sequence[FeedbackBase], known: bool) -> None:
    """The door to the journal: whoever adds to it, by whichever route, passes here."""
    asked = [entry for entry in entries if entry.spans or not known]
    about = about_samples(connection, (name for entry in asked for name in entry.sample_ids))
    for entry in entries:
        try:
            check_entry(entry)
            if entry.spans or not known:
                check_about(entry, about)
        except ValueError as error:
            raise WorkspaceError(f"the entry cannot be kept: {error}") from None


def anew(connection: Connection, entry: FeedbackBase) -> FeedbackBase:
    """The entry as it can count: under another key where the same was said and taken back."""
    said, number = entry, 0
    while rows := connection.execute(_IS_ACTIVE_BY_ID, {"id": said.id}).first():
        if rows.active:
            break
        number += 1
        said = entry.model_copy(update={"key": f"{entry.key}/{number}"})
    return said


def retract(connection: Connection, ids: Sequence[str], reason: str, by: str) -> list[str]:
    """`Journal.retract` of several within a transaction; returns those not taken back before."""
    targets = {row.id: row for row in select_rows(connection, ids)}
    if missing := [name for name in ids if name not in targets]:
        raise NotFoundError(f"no entry {missing[0]!r} to retract")
    insert_annotators(connection, {by: "people"})
    rows = [
        {
            "id": content_id(RETRACTION, name),
            "kind": RETRACTION,
            "annotator": by,
            "run": target.run,
            "round": target.round,
            "retracts": name,
            "body": {"reason": reason},
            "created": columns.now(),
        }
        for name, target in targets.items()
    ]
    new = {name for chunk in chunks(rows) for name in insert_new(connection, _journal, chunk)}
    return [row["retracts"] for row in rows if row["id"] in new]


def retract_all_of(
    connection: Connection, name: str, reason: str, by: str, project: str | None = None
) -> list[str]:
    """`Journal.retract_annotator` within a transaction with the locks that `append` needs.

    `project` takes back only what was said in this one.
    """
    require_annotator(connection, name)
    query = sa.select(_journal.c.id).where(IS_ACTIVE, _journal.c.annotator == name)
    if project is not None:
        query = query.where(_journal.c.run.in_(runs_of(project)))
    ids = connection.execute(query.order_by(_journal.c.number)).scalars().all()
    return retract(connection, ids, reason, by)


def runs_of(project: str) -> sa.Select[tuple[str]]:
    """The runs whose entries belong to a project."""
    return sa.select(schema.batches.c.run).where(schema.batches.c.project == project)


def require_annotator(connection: Connection, name: str) -> None:
    """Raise a `NotFoundError` for an annotator that nobody has heard of."""
    known = sa.select(schema.annotators.c.name).where(schema.annotators.c.name == name)
    if connection.execute(known).scalar() is None:
        raise NotFoundError(f"no annotator {name!r}")


def select_rows(connection: Connection, ids: Iterable[str]) -> list[sa.Row[Any]]:
    """Rows of feedback by id, as of `rows_with_erased`, in the order asked for."""
    wanted = list(dict.fromkeys(ids))
    found: dict[str, sa.Row[Any]] = {}
    for chunk in chunks(wanted):
        query = rows_with_erased().where(IS_FEEDBACK, _journal.c.id.in_(chunk))
        found |= {row.id: row for row in connection.execute(query)}
    return [found[name] for name in wanted if name in found]


def about(
    connection: Connection, query: sa.Select[Any], samples: Collection[str]
) -> list[sa.Row[Any]]:
    """Rows that speak of just these samples.

    Args:
        connection: of a transaction.
        query: of `rows_with_erased`, for rows of feedback.
        samples: ids, in any order.
    """
    for name in samples:
        query = query.where(_journal.c.body.cast(sa.Text).contains(name, autoescape=True))
    wanted = set(samples)
    rows = connection.execute(query)
    return [row for row in rows if set(entry_of(row).sample_ids) == wanted]


def entry_of(row: sa.Row[Any]) -> FeedbackBase:
    """The entry of a row of `select_rows`, under the id that it has there.

    Raises:
        WorkspaceError: it is damaged.
    """
    entry = as_said(row)
    return entry.under(row.id) if row.erased else entry


def as_said(row: sa.Row[*tuple[Any, ...]]) -> FeedbackBase:
    """The entry of a row by its body alone; a `WorkspaceError` for one that is damaged."""
    try:
        return parse_feedback(row.body)
    except ValidationError as error:
        said = row.body.get("kind") if isinstance(row.body, dict) else None
        if isinstance(said, str) and said.isidentifier() and said not in KINDS:
            raise DamageError(
                f"the entry {row.id} is of the kind {said!r}, which is not known here",
                hint="Where an extension brings it, name that in BACKFLIP_EXTENSIONS.",
            ) from error
        raise damage(f"the entry {row.id}") from error
