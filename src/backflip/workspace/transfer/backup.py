"""Backups: a whole workspace in one tar file, whichever database it is on.

Its members, in this order:

    backup.json                  what it is: format, schema, version, time
    tables/NAME/000001.jsonl     rows of a table, one JSON object a line; about 4 MiB a member
    artifacts/...                the files
    manifest.json                number of rows of each table; size and SHA-256 of each member above

All rows come from one transaction, so that they fit together whoever writes meanwhile. They stand
as the database holds them: the text of a JSON column stays that text, bytes are base64, and floats
that JSON does not know are words.

with Workspace.open("work") as ws:
    write_backup(ws, "work.tar.gz")
restore_backup("work.tar.gz", "copy")  # see `backflip.workspace.transfer.restore`
"""

import base64
import gzip
import hashlib
import io
import json
import math
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Any, cast

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.engine import Connection
from sqlalchemy.types import TypeDecorator, TypeEngine

from backflip import __version__
from backflip.errors import FREE_SPACE, WorkspaceError, why_not_written
from backflip.files.durable import whole_file
from backflip.records import Record
from backflip.workspace.database import columns, schema
from backflip.workspace.database.artifacts import lasting_files, unreadable
from backflip.workspace.database.engine import damage
from backflip.workspace.transfer.bounds import BOUNDS, fitting_name
from backflip.workspace.workspace import Workspace

FORMAT = 1
HEADING = "backup.json"
MANIFEST = "manifest.json"
TABLES = "tables"
ARTIFACTS = "artifacts"
PART_BYTES = 4 << 20
"""Rows are joined until a member is about this large: that much is in memory at once."""
WORDS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}
"""Floats that JSON does not know."""
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_LEVEL = 6  # of gzip: 9 takes several times as long and saves a few percent


class Heading(Record):
    """What a backup says of itself before all else.

    Attributes:
        format: of the backup.
        revision: of the schema that its rows have.
        backflip: version that wrote it.
        created: when.
    """

    format: int
    revision: str
    backflip: str
    created: datetime


class Member(Record):
    """A file in a backup; `rows` is None for one that holds no rows."""

    name: str
    size: int = Field(ge=0)
    sha256: str
    rows: int | None = None


class Manifest(Record):
    """All that a backup holds.

    Attributes:
        heading: what it says of itself.
        tables: number of rows of every table.
        members: its files, all but the manifest.
    """

    heading: Heading
    tables: dict[str, int]
    members: tuple[Member, ...]

    @property
    def artifacts(self) -> int:
        """Number of the workspace's files in it."""
        return sum(member.name.startswith(f"{ARTIFACTS}/") for member in self.members)


class Backup(Record):
    """A backup that was written.

    Attributes:
        file: where it lies.
        manifest: what is in it.
        left_out: files and folders of the artifacts that are not in it, relative to them:
            checkpoints of stages that are under way, and models that no row speaks of yet.
        elsewhere: paths of models that lie outside the workspace; their files are not in it.
    """

    file: Path
    manifest: Manifest
    left_out: tuple[str, ...]
    elsewhere: tuple[str, ...]


def write_backup(
    workspace: Workspace,
    file: str | Path,
    *,
    artifacts: bool = True,
    force: bool = False,
    advance: Callable[[int], None] | None = None,
) -> Backup:
    """Write all of a workspace to a tar file, packed by gzip where its name ends in `.gz`.

    Others may go on writing to the workspace. The file is there whole or not at all, and only its
    owner reads it: it holds what people wrote, and the secrets of the workspace.

    Args:
        workspace: what to write.
        file: where to.
        artifacts: whether its files are written, or only its rows.
        force: whether a file that is there already gives way.
        advance: called with the number of rows done since the last call.

    Raises:
        WorkspaceError: the file is there already or cannot be written, or an artifact cannot be
            read.
    """
    path = Path(file).absolute()
    try:
        taken = path.is_dir() or (path.exists() and not force)
    except OSError as error:
        raise WorkspaceError(why_not_written(error), where=str(path), hint=FREE_SPACE) from error
    if taken:
        raise _taken(path)
    try:
        with (
            whole_file(path, mode=0o600, replace=force) as raw,
            _packed(raw, path) as stream,
            tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            written = _write(_Pack(tar), workspace, path, artifacts, advance)
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        raise WorkspaceError(why_not_written(error), where=str(path), hint=FREE_SPACE) from error
    return written


def _packed(raw: IO[bytes], path: Path) -> AbstractContextManager[IO[bytes]]:
    if path.suffix.lower() != ".gz":
        return nullcontext(raw)
    return cast("IO[bytes]", gzip.GzipFile("", "wb", _LEVEL, raw))


def _taken(path: Path) -> WorkspaceError:
    if path.is_dir():
        return WorkspaceError("is a folder", where=str(path), hint="Name a file in it.")
    return WorkspaceError(
        "is there already", where=str(path), hint="Name another file, or give --force."
    )


def newer_schema(revision: str, where: str) -> WorkspaceError:
    """Rows of a schema that this program does not know."""
    return WorkspaceError(
        f"written by a newer Backflip: its schema is {revision}, "
        f"this program knows schemas up to {schema.HEAD}",
        where=where,
        hint="Install the newer Backflip: pip install --upgrade backflip",
    )


class _Pack:
    """A tar that is written member by member, each noted with its hash."""

    def __init__(self, tar: tarfile.TarFile):
        self._tar = tar
        self._time = columns.now()
        self.members: list[Member] = []
        self._names = 0

    def add(self, name: str, data: bytes, rows: int | None = None) -> None:
        self._add(name, _Hashed(io.BytesIO(data), name), len(data), rows)

    def add_file(self, folder: Path, path: PurePath) -> None:
        """Add an artifact; one that went away since it was listed, or is no file, is not added.

        Artifacts are replaced whole and never changed: one that is open stays as it was.
        """
        full, name = folder / path, f"{ARTIFACTS}/{path.as_posix()}"
        if any("\ud800" <= letter <= "\udfff" for letter in name):  # as bytes that are no UTF-8
            raise WorkspaceError(
                f"has a name that is no text: {path.name!r}",
                where=str(full.parent),
                hint="Give the file another name.",
            )
        if not fitting_name(name.split("/")):
            raise WorkspaceError(
                "has a name that is too long, or lies too deep",
                where=str(full),
                hint="Give the file another name: a backup with it could not be restored.",
            )
        try:
            if not full.is_file():
                return
            opened = full.open("rb")
        except FileNotFoundError:
            return
        except OSError as error:
            raise unreadable(error, str(full)) from error
        with opened:
            size = os.fstat(opened.fileno()).st_size
            self._add(name, _Hashed(opened, str(full)), size)

    def _add(self, name: str, stream: "_Hashed", size: int, rows: int | None = None) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.mtime = size, 0o600, int(self._time.timestamp())
        self._names += len(name.encode())
        last = len(self.members) + 1 == BOUNDS.members  # and the manifest is still to come
        if last or self._names > BOUNDS.names:
            raise WorkspaceError(
                f"holds more than {BOUNDS.members:,} files, or names of more than "
                f"{BOUNDS.names / 1e6:.0f} MB together: a backup of them could not be restored",
                hint="Take away what is no longer needed of the workspace's artifacts.",
            )
        self._tar.addfile(entry, cast("IO[bytes]", stream))
        digest = stream.digest.hexdigest()
        self.members.append(Member(name=name, size=size, sha256=digest, rows=rows))

    def heading(self, revision: str) -> Heading:
        """Add the first member."""
        made = Heading(format=FORMAT, revision=revision, backflip=__version__, created=self._time)
        self.add(HEADING, seal(made))
        return made

    def manifest(self, heading: Heading, tables: dict[str, int]) -> Manifest:
        """Add the last member."""
        made = Manifest(heading=heading, tables=tables, members=tuple(self.members))
        self.add(MANIFEST, seal(made))
        return made


def seal(content: Record) -> bytes:
    """A record as a member; beside it stands its hash, which no other member has."""
    fields = content.model_dump(mode="json")
    return json.dumps({"content": fields, "sha256": hash_json(fields)}, indent=1).encode() + b"\n"


def hash_json(value: Any) -> str:
    """SHA-256 of the one spelling that a value has."""
    return hashlib.sha256(columns.canonical(value).encode()).hexdigest()


class _Hashed:
    """A file that is hashed as it is read; what the system refuses is told with its name."""

    def __init__(self, stream: IO[bytes], where: str):
        self._stream = stream
        self._where = where
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        try:
            data = self._stream.read(size)
        except OSError as error:
            raise unreadable(error, self._where) from error
        if len(data) < size:
            raise WorkspaceError("became shorter while it was read", where=self._where)
        self.digest.update(data)
        return data


def _write(
    pack: _Pack,
    workspace: Workspace,
    file: Path,
    artifacts: bool,
    advance: Callable[[int], None] | None,
) -> Backup:
    with workspace.database.read(snapshot=True, exact=True) as connection:
        revision = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        if revision != schema.HEAD:  # by another process, since this one opened the workspace
            raise newer_schema(str(revision), workspace.database.where)
        heading = pack.heading(revision)
        models = list(connection.execute(sa.select(schema.models.c.path)).scalars())
        if not all(isinstance(path, str) for path in models):
            raise damage("where a model lies")
        tables = {
            table.name: _add_rows(pack, table.name, lines_of(connection, table), advance)
            for table in schema.metadata.sorted_tables
        }
    left_out: list[str] = []
    if artifacts:
        # After the rows: what they speak of was written before them, and is never taken away.
        kept = {PurePosixPath(path).parts[:2] for path in models}
        for path in lasting_files(workspace.artifacts, kept, left_out):
            pack.add_file(workspace.artifacts, path)
    return Backup(
        file=file,
        manifest=pack.manifest(heading, tables),
        left_out=tuple(left_out),
        elsewhere=tuple(path for path in models if PurePath(path).is_absolute()),
    )


def _add_rows(
    pack: _Pack, table: str, lines: Iterable[bytes], advance: Callable[[int], None] | None
) -> int:
    """Add a table's rows, a part at a time; returns how many there are."""
    parts, total = 0, 0
    for part in _parts(lines):
        parts, total = parts + 1, total + len(part)
        pack.add(f"{TABLES}/{table}/{parts:06d}.jsonl", b"".join(part), len(part))
        if advance is not None:
            advance(len(part))
    return total


def _parts(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    size = 0
    for line in lines:
        part.append(line)
        size += len(line)
        if size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def lines_of(connection: Connection, table: sa.Table) -> Iterator[bytes]:
    """Rows of a table as JSON, in the order in which one may name another of the same table."""
    stored = {column.name: _stored(column.type) for column in table.columns}
    columns = [sa.type_coerce(column, stored[column.name]) for column in table.columns]
    query = sa.select(*columns).order_by(*table.primary_key.columns)
    names = list(stored)
    spelt = [
        (name, spell)
        for kind, spell in ((sa.LargeBinary, _spell_bytes), (sa.Float, _spell_float))
        for name in names
        if isinstance(stored[name], kind)
    ]
    # Bytes may be megabytes a row.
    few = any(isinstance(kind, sa.LargeBinary) for kind in stored.values())
    rows = connection.execute(query, execution_options={"yield_per": 16 if few else 1000})
    for row in rows:
        values = dict(zip(names, row, strict=True))
        for name, spell in spelt:
            if values[name] is not None:
                values[name] = spell(values[name])
        line = _encode(values).encode() + b"\n"
        if len(line) > BOUNDS.line:
            raise WorkspaceError(
                f"a row of {table.name} is longer than {BOUNDS.line} bytes: a backup of it could "
                "not be restored"
            )
        yield line


def _stored(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type that the database knows, below what `schema` makes of it."""
    return kind.impl_instance if isinstance(kind, TypeDecorator) else kind


def _spell_bytes(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _spell_float(value: float) -> float | str:
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")
