"""What the tests of backups share: rows for every table there is, and backups read by hand."""

import base64
import hashlib
import io
import json
import math
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from store_helpers import clip_sample, completion_sample

from backflip.records.feedback import Comparison, GoodBad
from backflip.workspace import ModelRecord, Workspace
from backflip.workspace.database import columns, schema
from backflip.workspace.database.engine import Database

HOSTILE = "nul \x00, half a surrogate \ud800, bidi \u202e, escape \x1b[31m, 'Zoë' \"🙂\" \\ \n\r\t"
SAID = HOSTILE.replace("\x00", "").replace("\ud800", "")
"""What is taken today; older workspaces hold `HOSTILE`."""
WORDS = "'Zoë' \"🙂\" \\ \u2028 ; DROP TABLE journal --"
FLOATS = (math.inf, 0.1, 5e-324, -math.inf)
CONTENTS = (
    {"text": HOSTILE, "loss": math.nan, "limits": [math.inf, -math.inf, None]},
    HOSTILE,
    [],
    2**80,
)


def fill(
    connection: Connection, metadata: sa.MetaData, *, start: int = 0, numbered: bool = True
) -> None:
    """Four rows in every table, whatever tables there are, each about other rows.

    Numbers have gaps, so that rows which are merely counted again are seen. The rows are as older
    versions wrote them, which let more in.
    """
    made: dict[str, list[dict[str, Any]]] = {}
    for table in metadata.sorted_tables:
        rows = made.setdefault(table.name, [])
        kinds = {c.name: c.type for c in table.columns}
        open_ = {n: columns.Json() if isinstance(t, columns.Kept) else t for n, t in kinds.items()}
        into = sa.table(table.name, *(sa.column(name, kind) for name, kind in open_.items()))
        for place in range(4):
            row = {c.name: _value(c, start + place, place, made) for c in table.columns}
            if not numbered and "number" in row:
                del row["number"]
                query = sa.insert(into).returning(into.c.number)
                row["number"] = connection.execute(query, row).scalar_one()
            else:
                connection.execute(sa.insert(into), row)
            rows.append(row)


def _value(column: sa.Column[Any], key: int, place: int, made: dict[str, Any]) -> Any:
    kind, name = column.type, f"{column.table.name}.{column.name}"
    if column.name == "number":
        return 3 + 7 * key
    if column.nullable and place == 0:
        return None
    for reference in column.foreign_keys:
        parents = made[reference.column.table.name]
        own = reference.column.table is column.table
        return parents[place - 1 if own else place][reference.column.name]
    if isinstance(kind, columns.Json):
        return f"models/{HOSTILE}" if column.name == "path" else CONTENTS[place]
    if isinstance(kind, columns.Moment):
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=key)
    if isinstance(kind, columns.Real):
        return (math.nan, *FLOATS)[place]
    if isinstance(kind, sa.Boolean):
        return place % 2 == 1
    if isinstance(kind, sa.Integer):
        return 2**62 + key if isinstance(kind, sa.BigInteger) else 2**31 - 1 - key
    if isinstance(kind, sa.Float):
        return FLOATS[place]
    if isinstance(kind, sa.LargeBinary):
        return bytes(range(256)) * place
    return json.dumps(f"{WORDS} {name} {key}", ensure_ascii=False)


def live(workspace: Workspace) -> None:
    """What a project does: samples, answers, some taken back, a snapshot, models and metrics."""
    samples = [completion_sample(n, prompt=n // 2) for n in range(4)] + [clip_sample(1)]
    workspace.samples.add(samples)
    votes = [
        GoodBad(annotator="mia", sample=s.id, good=True, reason=SAID, key=SAID) for s in samples
    ]
    pair = (samples[0].id, samples[1].id)
    workspace.journal.add([*votes, Comparison(annotator="bo", samples=pair, choice="tie")])
    workspace.journal.retract(votes[1].id, SAID, by="mia")
    snapshot = workspace.snapshots.take([entry.id for entry in workspace.journal.active()])
    workspace.runs.start("run-live", "run", {"x": math.nan}, "0")
    workspace.metrics.log("run-live", "sft", 1, {"loss": math.nan, "reward": -math.inf})
    for name, parents in (("model-1", ()), ("model-2", ("model-1",))):
        workspace.models.register(
            ModelRecord(
                id=name,
                name=name,
                stage="policy",
                path=f"models/{name}",
                parents=parents,
                snapshot=snapshot.id,
            )
        )
        put(workspace.artifacts / "models" / name / "weights.safetensors", name.encode() * 1000)


def put(path: Path, data: bytes = b"some") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def everything(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables as the database itself tells them, with their types."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    with database.engine.connect() as connection:
        inspector = sa.inspect(connection)
        for name in inspector.get_table_names():
            columns = sorted(column["name"] for column in inspector.get_columns(name))
            quote = connection.dialect.identifier_preparer.quote
            listed = ", ".join(map(quote, columns))
            rows = connection.exec_driver_sql(f"SELECT {listed} FROM {quote(name)}")  # noqa: S608
            found[name] = sorted(tuple(map(_plain, row)) for row in rows)
            found[name].insert(0, tuple(columns))
    return found


def as_restored(found: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    """What `everything` finds in a restored workspace, where it found this before.

    The deliveries that `fill` makes wait for nothing; those that do have a test of their own.
    """
    passing = ("sessions", "login_failures", "workers", "servers")
    return {name: rows[:1] if name in passing else rows for name, rows in found.items()}


def _plain(value: Any) -> str:
    """A value and its type; SQLite has no booleans."""
    return repr(int(value) if isinstance(value, bool) else value)


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


Members = list[tuple[tarfile.TarInfo, bytes]]


def unpack(file: Path) -> Members:
    """Members of a tar with what they hold."""
    with tarfile.open(file) as tar:
        return [(entry, (tar.extractfile(entry) or io.BytesIO()).read()) for entry in tar]


def rows_in(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of a backup by table."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry, data in unpack(file):
        if entry.name.startswith("tables/"):
            found.setdefault(entry.name.split("/")[1], []).extend(
                json.loads(line) for line in data.splitlines()
            )
    return found


def seal(content: Any) -> bytes:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps({"content": content, "sha256": digest}).encode()


def content_of(data: bytes) -> Any:
    return json.loads(data)["content"]


def forge(file: Path, change: Callable[[Members], Members]) -> Path:
    """A changed backup beside `file` whose manifest says that all is well."""
    members = change(unpack(file)[:-1])
    manifest = content_of(unpack(file)[-1][1])
    manifest["heading"] = content_of(members[0][1])
    manifest["members"] = []
    tables: dict[str, int] = dict.fromkeys(manifest["tables"], 0)
    for entry, data in members:
        entry.size = len(data)
        rows = None
        if entry.name.startswith("tables/"):
            table, rows = entry.name.split("/")[1], data.count(b"\n")
            tables[table] = tables.get(table, 0) + rows
        digest = hashlib.sha256(data).hexdigest()
        told = {"name": entry.name, "size": len(data), "sha256": digest, "rows": rows}
        manifest["members"].append(told)
    return pack(file, [*members, named("manifest.json", seal({**manifest, "tables": tables}))])


def named(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A member."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    for field, value in fields.items():
        setattr(entry, field, value)
    return entry, data


def pack(file: Path, members: Members) -> Path:
    forged = file.with_name(f"forged-{file.name}")
    with tarfile.open(forged, "w") as tar:
        for entry, data in members:
            tar.addfile(entry, io.BytesIO(data))
    return forged


def change_rows(table: str, change: Callable[[list[Any]], Any]) -> Callable[[Members], Members]:
    """A forgery of a table's rows, which stand in one part."""

    def forged(members: Members) -> Members:
        changed: Members = []
        for entry, data in members:
            if entry.name.startswith(f"tables/{table}/"):
                rows = [json.loads(line) for line in data.splitlines()]
                change(rows)
                data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
            changed.append((entry, data))
        return changed

    return forged


def dangling(rows: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Foreign keys of a backup's rows that lead nowhere."""
    found = []
    for table in schema.metadata.tables.values():
        for key in table.foreign_keys:
            target = key.column
            there = {row[target.name] for row in rows.get(target.table.name, [])}
            here = {row[key.parent.name] for row in rows.get(table.name, [])} - {None}
            found += [f"{key.parent}: {value}" for value in here - there]
    return found


def array_bytes(row: dict[str, Any]) -> bytes:
    return base64.b64decode(row["arrays"])
