"""The journal of feedback: entries are added, and nothing else ever happens to them.

A retraction is an entry of its own that names the one it takes back. The database refuses to
update or delete rows of the journal, whoever asks; only the words of somebody who has them erased
may go (see `backflip.workspace.privacy.erasing`).
"""

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backflip.errors import DamageError, NotFoundError, WorkspaceError
from backflip.records.feedback import FeedbackBase
from backflip.workspace.database import columns, schema
from backflip.workspace.database.engine import Database
from backflip.workspace.material.entries import (
    IS_ACTIVE,
    IS_ERASED,
    IS_FEEDBACK,
    RETRACTION,
    append,
    as_said,
    entry_of,
    require_annotator,
    retract,
    retract_all_of,
    rows_with_erased,
    runs_of,
    select_rows,
)

_journal = schema.journal
OnDamaged = Callable[[str, DamageError], None]
"""Takes the id of an entry and why it, or a sample that it speaks of, cannot be read."""


def stop_at_damaged(name: str, error: DamageError) -> NoReturn:
    """What readers do with damage unless told otherwise."""
    raise error


def _said_by(row: sa.Row[*tuple[Any, ...]], on_damaged: OnDamaged) -> FeedbackBase | None:
    try:
        entry = as_said(row)
        if not row.erased and entry.id != row.id:
            what = f"the entry {row.id} is damaged: its id is of something else"
            raise DamageError(what, hint=columns.DOCTOR)
        return entry
    except DamageError as error:
        on_damaged(row.id, error)
        return None


@dataclass(frozen=True)
class JournalRow:
    """One row of the journal, feedback or retraction.

    Attributes:
        number: place in the journal.
        id: of the entry or of the retraction.
        kind: a kind of feedback, or "retraction".
        annotator: who said it; for a retraction, who took it back.
        entry: the feedback; None for a retraction, and for feedback that is damaged.
        retracts, reason: for a retraction, the entry it takes back and why.
        run, round: where the entry was asked for; None for an import.
        created: when it was written.
    """

    number: int
    id: str
    kind: str
    annotator: str
    entry: FeedbackBase | None
    retracts: str | None
    reason: str | None
    run: str | None
    round: int | None
    created: datetime


@dataclass(frozen=True)
class JournalStats:
    """How many entries there are; the four tables count active ones."""

    active: int
    retracted: int
    by_kind: dict[str, int]
    by_annotator: dict[str, int]
    by_origin: dict[str, int]
    by_axis: dict[str, int]


class Journal:
    """What annotators said, in the order they said it."""

    def __init__(self, database: Database):
        self._database = database

    def add(
        self,
        entries: Iterable[FeedbackBase],
        *,
        round: int | None = None,  # noqa: A002
        run: str | None = None,
    ) -> list[str]:
        """Append entries, all or none; annotators that are not known yet become so.

        An entry that is there already counts once, and stays retracted if it was.

        Returns:
            Ids of the entries that were new.

        Raises:
            WorkspaceError: an entry speaks of a sample that is not in the workspace.
        """
        entries = list(entries)
        with self._database.write("annotators", "journal") as connection:
            return append(connection, entries, round=round, run=run)

    def active(
        self,
        kinds: str | Collection[str] | None = None,
        axis: str | Collection[str] | None = None,
        origin: str | Collection[str] | None = None,
        annotator: str | Collection[str] | None = None,
        rounds: int | Collection[int] | None = None,
        run: str | Collection[str] | None = None,
        *,
        held: bool = False,
        on_damaged: OnDamaged = stop_at_damaged,
    ) -> list[FeedbackBase]:
        """Entries that nobody took back, in journal order; each filter takes a value or several.

        Args:
            kinds: of the entries, and so on; None for all.
            axis: likewise.
            origin: likewise.
            annotator: likewise.
            rounds: likewise.
            run: likewise.
            held: whether each entry is held to its id, so that what somebody altered in the
                database is damaged, too. It takes as long again.
            on_damaged: called with each entry that cannot be read; by default it is raised.
        """
        erased = IS_ERASED if held else sa.true()
        query = (
            sa.select(_journal.c.id, _journal.c.body, erased.label("erased"))
            .where(IS_ACTIVE)
            .order_by(_journal.c.number)
        )
        filters = {
            "kind": kinds,
            "axis": axis,
            "origin": origin,
            "annotator": annotator,
            "round": rounds,
            "run": run,
        }
        for name, value in filters.items():
            if value is not None:
                values = [value] if isinstance(value, str | int) else list(value)
                query = query.where(_journal.c[name].in_(values))
        with self._database.read() as connection:
            read = (_said_by(row, on_damaged) for row in connection.execute(query))
            return [entry for entry in read if entry is not None]

    def newest(
        self,
        rounds: Iterable[tuple[str, int]],
        *,
        kind: str | None = None,
        annotator: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[JournalRow]:
        """Entries of some rounds that count, newest first.

        Args:
            rounds: run and number of each.
            kind: only of this one; None for all.
            annotator: only of this one; None for all.
            before: only rows with a lower number.
            limit: as many at most.
        """
        columns = {"kind": kind, "annotator": annotator}
        query = rows_with_erased().where(IS_ACTIVE).order_by(_journal.c.number.desc()).limit(limit)
        for name, value in columns.items():
            if value is not None:
                query = query.where(_journal.c[name] == value)
        if before is not None:
            query = query.where(_journal.c.number < before)
        found: list[sa.Row[Any]] = []
        with self._database.read() as connection:
            # Round by round an index holds the rows in order; over several it would be sorted.
            for run, number in rounds:
                here = query.where(_journal.c.run == run, _journal.c.round == number)
                found += connection.execute(here)
        found.sort(key=lambda row: -row.number)
        return [_journal_row(row) for row in found[:limit]]

    def get(self, ids: Iterable[str]) -> dict[str, FeedbackBase]:
        """Entries by id, retracted ones too, in the order asked for; unknown ids are left out."""
        with self._database.read() as connection:
            return {row.id: entry_of(row) for row in select_rows(connection, ids)}

    def said_by(self, name: str) -> list[str]:
        """Ids of all that an annotator ever said, taken back or not, in journal order.

        Raises:
            WorkspaceError: no such annotator.
        """
        query = sa.select(_journal.c.id).where(IS_FEEDBACK, _journal.c.annotator == name)
        with self._database.read() as connection:
            require_annotator(connection, name)
            return list(connection.execute(query.order_by(_journal.c.number)).scalars())

    def retract(self, entry_id: str, reason: str, by: str) -> bool:
        """Take an entry back; returns False when it was taken back before.

        Raises:
            WorkspaceError: no such entry.
        """
        with self._database.write("annotators", "journal") as connection:
            return bool(retract(connection, [entry_id], reason, by))

    def retract_annotator(
        self, name: str, reason: str, by: str, *, project: str | None = None
    ) -> list[str]:
        """Take back all active entries of an annotator; returns their ids.

        What the annotator says later counts again.

        Args:
            name: of the annotator.
            reason: why.
            by: who takes them back.
            project: only those of this one.

        Raises:
            WorkspaceError: no such annotator.
        """
        with self._database.write("annotators", "journal") as connection:
            return retract_all_of(connection, name, reason, by, project)

    def replace(self, entry_id: str, entry: FeedbackBase, reason: str, by: str) -> bool:
        """Take an entry back and put another in its place, both or neither.

        The new one belongs to the same run and round, and to the task that the old one answered:
        to undo that answer takes the new one back.

        Returns:
            False when the old entry was taken back before; nothing is added then.

        Raises:
            WorkspaceError: no such entry, or the new one speaks of a sample that is not there.
        """
        places = schema.assignments
        with self._database.write("queue", "annotators", "journal") as connection:
            if not retract(connection, [entry_id], reason, by):
                return False
            (old,) = select_rows(connection, [entry_id])
            append(connection, [entry], run=old.run, round=old.round)
            for table in (places, schema.answer_extras):
                moved = sa.update(table).where(table.c.entry_id == entry_id)
                connection.execute(moved.values(entry_id=entry.id))
            return True

    def history(self, entry_id: str) -> list[JournalRow]:
        """The entry's row and, when it was taken back, the retraction's.

        Raises:
            WorkspaceError: no such entry.
        """
        either = sa.or_(_journal.c.id == entry_id, _journal.c.retracts == entry_id)
        query = rows_with_erased().where(either).order_by(_journal.c.number)
        with self._database.read() as connection:
            rows = [_journal_row(row) for row in connection.execute(query)]
        if not rows:
            raise NotFoundError(f"no entry {entry_id!r}", where=self._database.where)
        return rows

    def count(self, *, annotator: str | None = None, project: str | None = None) -> int:
        """Number of active entries; of all, or of an annotator's and a project's alone."""
        conditions = [IS_ACTIVE]
        if annotator is not None:
            conditions.append(_journal.c.annotator == annotator)
        if project is not None:
            conditions.append(_journal.c.run.in_(runs_of(project)))
        with self._database.read() as connection:
            return _count(connection, sa.and_(*conditions))

    def stats(self) -> JournalStats:
        """Numbers of entries by kind, annotator, origin and axis."""
        with self._database.read() as connection:
            active = _count(connection, IS_ACTIVE)
            tables: list[dict[str, int]] = []
            for name in ("kind", "annotator", "origin", "axis"):
                column = _journal.c[name]
                query = sa.select(column, sa.func.count()).where(IS_ACTIVE).group_by(column)
                rows = connection.execute(query.order_by(column))
                tables.append({row[0]: row[1] for row in rows})
            return JournalStats(active, _count(connection, IS_FEEDBACK) - active, *tables)


def _count(connection: Connection, condition: Any) -> int:
    query = sa.select(sa.func.count()).select_from(_journal).where(condition)
    return connection.execute(query).scalar_one()


def _journal_row(row: sa.Row[Any]) -> JournalRow:
    feedback, entry = row.kind != RETRACTION, None
    with suppress(WorkspaceError):  # a page shows what it can, and says where it cannot
        entry = entry_of(row) if feedback else None
    return JournalRow(
        number=row.number,
        id=row.id,
        kind=row.kind,
        annotator=row.annotator,
        entry=entry,
        retracts=row.retracts,
        reason=None if feedback else columns.as_text(columns.as_object(row.body).get("reason")),
        run=row.run,
        round=row.round,
        created=row.created,
    )
