"""Snapshots: the exact entries that something was trained on."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backflip.errors import WorkspaceError
from backflip.records import Record, content_id
from backflip.records.feedback import FeedbackBase
from backflip.workspace.database import columns, schema
from backflip.workspace.database.engine import Database, chunks, damage, insert_new
from backflip.workspace.material.entries import entry_of, select_rows


class Snapshot(Record):
    """Entries in order; `id` is the hash of their rows."""

    id: str
    entry_ids: tuple[str, ...]


class Snapshots:
    """Lists of entries that never change, even when an entry is taken back later."""

    def __init__(self, database: Database):
        self._database = database

    def take(self, entry_ids: Iterable[str]) -> Snapshot:
        """Fix these entries in this order; the same entries again are the same snapshot.

        Raises:
            WorkspaceError: an unknown entry, or the same one twice.
        """
        wanted = tuple(entry_ids)
        # Entries never change, and to read very many takes long: nobody who answers waits for it.
        with self._database.read(snapshot=True) as connection:
            rows = select_rows(connection, wanted)
        if len(rows) != len(wanted):
            known = {row.id for row in rows}
            unknown = [name for name in wanted if name not in known]
            what = f"no entry {unknown[0]!r}" if unknown else "an entry stands there twice"
            raise WorkspaceError(f"cannot take a snapshot: {what}")
        snapshot = Snapshot(id=_hash(rows), entry_ids=wanted)
        with self._database.write("journal") as connection:
            row = {"id": snapshot.id, "created": columns.now()}
            if insert_new(connection, schema.snapshots, [row]):
                places = (
                    {"snapshot_id": snapshot.id, "place": place, "entry_id": name}
                    for place, name in enumerate(wanted)
                )
                for chunk in chunks(places):
                    connection.execute(sa.insert(schema.snapshot_entries), chunk)
            return snapshot

    def get(self, snapshot_id: str) -> Snapshot:
        """A snapshot by its id; a `WorkspaceError` when there is none."""
        with self._database.read() as connection:
            return Snapshot(id=snapshot_id, entry_ids=tuple(self._ids(connection, snapshot_id)))

    def rows(self, snapshot_id: str) -> list[FeedbackBase]:
        """The entries as they were when the snapshot was taken, but for words that were erased.

        Raises:
            WorkspaceError: no such snapshot, or its rows no longer have its hash.
            DamageError: one of its rows cannot be read.
        """
        with self._database.read() as connection:
            rows = select_rows(connection, self._ids(connection, snapshot_id))
        if not is_of(snapshot_id, rows):
            raise WorkspaceError(
                f"the entries of {snapshot_id} are not those it was taken of",
                where=self._database.where,
                hint="The database was changed by another program; restore it from a copy.",
            )
        return [entry_of(row) for row in rows]

    def _ids(self, connection: Connection, snapshot_id: str) -> list[str]:
        known = sa.select(schema.snapshots.c.id).where(schema.snapshots.c.id == snapshot_id)
        if connection.execute(known).scalar() is None:
            raise WorkspaceError(f"no snapshot {snapshot_id!r}", where=self._database.where)
        table = schema.snapshot_entries
        query = sa.select(table.c.entry_id).where(table.c.snapshot_id == snapshot_id)
        return list(connection.execute(query.order_by(table.c.place)).scalars())


def is_of(snapshot_id: str, rows: list[sa.Row[Any]]) -> bool:
    """Whether these are the rows that a snapshot was taken of, but for words that were erased."""
    return _hash(rows) == snapshot_id or _only_erased(rows, [entry_of(row) for row in rows])


def _hash(rows: list[sa.Row[Any]]) -> str:
    for row in rows:
        if isinstance(row.body, columns.Damaged):
            raise damage(f"the entry {row.id}")
    return content_id("snapshot", [[row.id, row.body] for row in rows])


def _only_erased(rows: list[sa.Row[Any]], entries: list[FeedbackBase]) -> bool:
    """Whether all that has changed may be words that were erased.

    The snapshot's hash is of those words too, so that only the other entries can be held to
    something: each to its own id, which is a hash of what it holds.
    """
    kept = [(row, entry) for row, entry in zip(rows, entries, strict=True) if not row.erased]
    return len(kept) < len(rows) and all(row.id == entry.id for row, entry in kept)
