"""Rows held to what they are named by, and to the rows that they speak of."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from safetensors import SafetensorError
from safetensors import numpy as safetensors
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from backflip.errors import BackflipError
from backflip.records import Content, Prompt, Sample, content_from, content_id
from backflip.records.checks import check_content
from backflip.records.feedback import parse_feedback
from backflip.records.plan import stage_of
from backflip.workspace.database import schema
from backflip.workspace.database.kept import result_faults
from backflip.workspace.doctor.reading import Finding, name_of, rows_of, telling
from backflip.workspace.material.entries import IS_ERASED, RETRACTION, select_rows
from backflip.workspace.material.prompts import has_no_words
from backflip.workspace.material.samples import ERASED_HEADER
from backflip.workspace.material.snapshots import is_of

_LISTED = 100
"""Findings of a kind that are told one by one."""
_UNFIT = (ValueError, TypeError, KeyError, AttributeError, RecursionError, SafetensorError)
"""What a value of another shape makes its readers raise."""
_Row = dict[str, Any]
OTHER = "is not what was written: its id is of something else"


def check_rows(connection: Connection, where: str) -> Iterator[Finding]:
    """Everything that can be told of the rows themselves.

    Args:
        connection: of `reading`.
        where: what the database is called.
    """
    there = _tables(connection)
    missing = schema.metadata.tables.keys() - there
    for name in sorted(missing):
        yield Finding(state="lost", what="is gone", where=f"table {name}")
    if connection.dialect.name == "sqlite":
        yield from _integrity(connection, where)
    checks: list[Callable[[], Iterator[Finding]]] = [
        lambda: _references(connection, missing),
        lambda: _contents(connection, missing),
        lambda: _snapshots(connection),
    ]
    lost: set[str] = set()
    for check in checks:
        try:
            yield from _told_once(check(), lost)
        except (DBAPIError, BackflipError, *_UNFIT) as error:
            if not missing:
                yield telling("damaged", error, where=where)


def _told_once(found: Iterable[Finding], lost: set[str]) -> Iterator[Finding]:
    """The findings without what is `lost` already, whoever else speaks of it; it gets the rest."""
    for finding in found:
        if finding.state != "lost" or finding.where not in lost:
            yield finding
        if finding.state == "lost":
            lost.add(finding.where)


def _tables(connection: Connection) -> set[str]:
    try:
        return set(sa.inspect(connection).get_table_names())
    except (DBAPIError, UnicodeError):
        return set()


def _integrity(connection: Connection, where: str) -> Iterator[Finding]:
    try:
        for (told,) in connection.exec_driver_sql(f"PRAGMA integrity_check({_LISTED})"):
            if told != "ok":
                yield Finding(state="damaged", what=" ".join(str(told).split()), where=where)
    except (DBAPIError, UnicodeError) as error:
        yield telling("damaged", error, where=where)


def _references(connection: Connection, missing: set[str]) -> Iterator[Finding]:
    """Rows that speak of rows which are not there."""
    for table in schema.metadata.sorted_tables:
        for key in table.foreign_keys:
            column, target = key.parent, key.column
            if {table.name, target.table.name} & missing:
                continue
            other = target.table.alias("other")
            lost = (
                sa.select(column)
                .outerjoin(other, other.c[target.name] == column)
                .where(column.is_not(None), other.c[target.name].is_(None))
            )
            values = connection.execute(lost.distinct()).scalars()
            what = f"is gone, and {table.name} speaks of it"
            yield from _listed(
                Finding(state="lost", what=what, where=f"{target.table.name} {value}")
                for value in values
            )


def _listed(found: Iterator[Finding]) -> Iterator[Finding]:
    """The first of many in each state, and how many more there are."""
    number, last = Counter[str](), dict[str, Finding]()
    for finding in found:
        number[finding.state] += 1
        if number[finding.state] <= _LISTED:
            yield finding
        else:
            last[finding.state] = finding
    for state, finding in last.items():
        more = f"(and {number[state] - _LISTED - 1} more of this kind)"
        yield finding.model_copy(update={"what": f"{finding.what} {more}"})


def _contents(connection: Connection, missing: set[str]) -> Iterator[Finding]:
    """Rows that cannot be read, and those that do not hold what their ids are made of."""
    erased = _erased(connection, missing)
    known: set[str] = set()
    tables = [table for table in schema.metadata.sorted_tables if table.name not in missing]
    for table in sorted(tables, key=lambda table: table is not schema.samples):
        try:
            yield from _listed(_of_table(connection, table, known, erased))
        except (DBAPIError, UnicodeError) as error:
            yield telling("damaged", error, where=f"table {table.name}")


def _erased(connection: Connection, missing: set[str]) -> set[str]:
    """Entries whose words may have been erased: their ids are of what they held."""
    if {"journal", "erasures"} & missing:
        return set()
    query = sa.select(schema.journal.c.id).where(IS_ERASED)
    return set(connection.execute(query).scalars())


def _of_table(
    connection: Connection, table: sa.Table, samples: set[str], erased: set[str]
) -> Iterator[Finding]:
    """Findings of a table; `samples` gets the ids of its samples, for what comes after it."""
    for row, fault in rows_of(connection, table):
        where = name_of(table, row)
        if table is schema.samples:
            samples.add(str(row["id"]))
        try:
            told = fault or _content_fault(table, row, erased)
            spoken = () if told else _spoken_of(table, row)
        except (BackflipError, *_UNFIT):
            told, spoken = "holds what it cannot", ()
        faults = [told] if told else _result_faults(table, row)
        yield from (Finding(state="damaged", what=fault, where=where) for fault in faults)
        if not faults and table is schema.samples and (odd := _oddness(row)):
            yield Finding(state="note", what=odd, where=where)
        for name in spoken:
            if name not in samples:
                what = f"is gone, and {where} speaks of it"
                yield Finding(state="lost", what=what, where=f"samples {name}")


def _content_fault(table: sa.Table, row: _Row, erased: set[str]) -> str | None:
    """What is wrong with a row whose id is a hash of what it holds."""
    if table is schema.prompts:
        if has_no_words(row["content"]):
            return None
        prompt = Prompt(content=row["content"], source=row["source"], split=row["split"])
        return None if prompt.id == row["id"] else OTHER
    if table is schema.samples:
        return None if row["header"] == ERASED_HEADER or _is_sample(row) else OTHER
    if table is schema.journal:
        if row["kind"] == RETRACTION:
            same = row["id"] == content_id(RETRACTION, row["retracts"])
        else:
            entry = parse_feedback(row["body"])
            same = entry.id == row["id"] or row["id"] in erased
            same = same and (entry.annotator, entry.axis) == (row["annotator"], row["axis"])
        return None if same else OTHER
    return None


def _content(row: _Row) -> Content:
    return content_from(row["header"], safetensors.load(bytes(row["arrays"])))


def _oddness(row: _Row) -> str | None:
    """Why a sample would not be kept today: one that is what it says is still read and used."""
    try:
        check_content(_content(row))
    except ValueError as error:
        return f"is read as it was kept, but would be refused today: {error}"
    return None


def _result_faults(table: sa.Table, row: _Row) -> list[str]:
    """What is wrong with the result of a stage that is done, key by key."""
    if table is not schema.stages or row["result"] is None:
        return []
    return result_faults(stage_of(row["key"]), row["result"])


def _is_sample(row: _Row) -> bool:
    content = _content(row)
    asked = Prompt.from_text("").under(row["prompt_id"])
    origin = {"model": row["model"], "weights_version": row["weights_version"], **row["origin"]}
    return Sample(id=row["id"], prompt=asked, content=content, **origin).is_what_it_says


def _spoken_of(table: sa.Table, row: _Row) -> tuple[str, ...]:
    """Samples that a row names within its JSON, which no foreign key holds."""
    if table is schema.journal and row["kind"] != RETRACTION:
        return tuple(parse_feedback(row["body"]).sample_ids)
    return tuple(row["sample_ids"]) if table is schema.tasks else ()


def _snapshots(connection: Connection) -> Iterator[Finding]:
    held = schema.snapshot_entries
    for name in connection.execute(sa.select(schema.snapshots.c.id)).scalars().all():
        query = sa.select(held.c.entry_id).where(held.c.snapshot_id == name)
        ids = connection.execute(query.order_by(held.c.place)).scalars().all()
        try:
            rows = select_rows(connection, ids)
            same = len(rows) == len(ids) and is_of(name, rows)
        except (BackflipError, *_UNFIT):
            same = False
        if not same:
            what = "its entries are not those it was taken of"
            yield Finding(state="damaged", what=what, where=f"snapshots {name}")
