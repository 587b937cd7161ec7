"""Reading a backup: every member in order, checked before it is believed.

A backup may come from anybody: a file in it can land nowhere but among the artifacts of the new
workspace, and whatever is wrong is told with the member where it was found.
"""

import gzip
import hashlib
import json
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path, PurePath
from typing import Any

from backflip.errors import WorkspaceError
from backflip.files.durable import flush_file
from backflip.workspace.database import migrations
from backflip.workspace.database.artifacts import unreadable
from backflip.workspace.transfer.backup import (
    ARTIFACTS,
    FORMAT,
    HEADING,
    MANIFEST,
    TABLES,
    Heading,
    Manifest,
    Member,
    hash_json,
    newer_schema,
)
from backflip.workspace.transfer.bounds import (
    BOUNDS,
    Bounds,
    Metered,
    fitting_name,
    read_json,
    require_room,
)
from backflip.workspace.transfer.tar_reading import PLAIN, Entry, TarReader

PART = re.compile(rf"{TABLES}/([a-z][a-z0-9_]*)/[0-9]{{6,}}\.jsonl")
"""Names of members that hold rows; its group is the table."""
_BLOCK = 1 << 20
_BROKEN = (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, zlib.error)
"""What a file that is no sound tar makes its readers raise."""
OTHER_COPY = "Use another copy of it."
_NO_BACKUP = "is not a backup"
_HEADING_BYTES = 64 << 10
_MEMBER_BYTES, _MEMBER_SIGNS = 256, 16  # of a member in the manifest, beside its name
_SIGNS = 1000  # of JSON without members: in a row, and in the rest of the manifest
_SHOWN = 200


def check_backup(
    file: str | Path, *, advance: Callable[[int], None] | None = None, bounds: Bounds = BOUNDS
) -> Manifest:
    """Read a backup from end to end, and hold all that is in it against its manifest.

    Args:
        file: the backup.
        advance: called with the number of rows read since the last call.
        bounds: what it may ask of this machine.

    Raises:
        WorkspaceError: it is no backup, is cut off or damaged (the member is named), was written
            by a newer Backflip, holds what has no place in a backup, or goes beyond the bounds.
    """
    return read_backup(Path(file), None, advance, bounds)


def read_backup(
    file: Path,
    draft: Path | None,
    advance: Callable[[int], None] | None,
    bounds: Bounds = BOUNDS,
    rows: Callable[[str, Iterator[bytes]], int] | None = None,
) -> Manifest:
    """`check_backup`; the artifacts are kept below `draft`, if there is one.

    `rows` is given a table's name and lines of it, which it may not believe before this returns,
    and says how many there are.
    """
    found: dict[str, Member] = {}
    heading: Heading | None = None
    manifest: Manifest | None = None
    with closing(read_members(file, bounds)) as contents:
        for content in contents:
            number = None
            if heading is None:
                heading = _heading(file, content.whole(_HEADING_BYTES))
            elif manifest is not None or content.name in found:
                raise damaged(file, content.name)
            elif content.name == MANIFEST:
                room = sum(_MEMBER_BYTES + len(json.dumps(name)) for name in found)
                manifest = _manifest(file, content.whole(_HEADING_BYTES + room), found)
                continue
            elif part := PART.fullmatch(content.name):
                lines = content.lines(bounds.line)
                number = sum(1 for _ in lines) if rows is None else rows(part[1], lines)
                if advance is not None:
                    advance(number)
            else:
                _keep(content, draft, bounds)
            found[content.name] = content.member(number)
    if manifest is None:
        last = list(found)[-1] if found else "its beginning"
        raise WorkspaceError(
            f"is cut off or damaged after {last}", where=str(file), hint=OTHER_COPY
        )
    if manifest.heading != heading:
        raise damaged(file, HEADING)
    return manifest


def _heading(file: Path, data: bytes) -> Heading:
    """The first member, where it is that of a backup that this program can read."""
    known = _sealed(file, HEADING, data, _SIGNS)
    if known.get("format") != FORMAT:
        raise WorkspaceError(
            f"written by a newer Backflip: its format is {known.get('format')}, this program "
            f"knows {FORMAT}",
            where=str(file),
            hint="Install the newer Backflip: pip install --upgrade backflip",
        )
    try:
        heading = Heading.model_validate(known)
    except ValueError:
        raise damaged(file, HEADING) from None
    if heading.revision not in migrations.revisions():
        raise newer_schema(heading.revision, str(file))
    return heading


def _sealed(file: Path, name: str, data: bytes, signs: int) -> dict[str, Any]:
    """What `seal` made a member of; for `signs`, see `read_json`."""
    try:
        found = read_json(data, signs)
        content, digest = found["content"], found["sha256"]
        if isinstance(content, dict) and hash_json(content) == digest:
            return content
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise damaged(file, name)


def _manifest(file: Path, data: bytes, found: Mapping[str, Member]) -> Manifest:
    """The manifest, where it names just what was found before it."""
    try:
        signs = _SIGNS + _MEMBER_SIGNS * len(found)
        manifest = Manifest.model_validate(_sealed(file, MANIFEST, data, signs))
    except ValueError:
        raise damaged(file, MANIFEST) from None
    named = {member.name: member for member in manifest.members}
    rows: Counter[str] = Counter(dict.fromkeys(manifest.tables, 0))
    for member in manifest.members:
        if part := PART.fullmatch(member.name):
            rows[part[1]] += member.rows or 0
    if rows != manifest.tables or len(named) != len(manifest.members):
        raise damaged(file, MANIFEST)
    for name in [*named, *found]:
        if named.get(name) != found.get(name):
            raise damaged(file, name)
    return manifest


def read_row(line: bytes) -> Any:
    """The JSON of a row, whose values are numbers and texts; for errors, see `read_json`."""
    return read_json(line, _SIGNS)


def damaged(file: Path, name: str) -> WorkspaceError:
    """A member that is not what the manifest says."""
    return WorkspaceError(f"is damaged at {name}", where=str(file), hint=OTHER_COPY)


class Content:
    """What a member holds, hashed as it is read."""

    def __init__(self, file: Path, entry: Entry, tar: TarReader):
        self.name = entry.name
        self.size = entry.size
        self._file = file
        self._tar = tar
        self._digest = hashlib.sha256()
        self._size = 0

    def read(self, size: int) -> bytes:
        with _telling(self._file, f"is cut off or damaged at {self.name}"):
            data = self._tar.read(size)
        self._digest.update(data)
        self._size += len(data)
        return data

    def whole(self, limit: int) -> bytes:
        """All of it; one that says it is longer than `limit` bytes is damaged."""
        if self.size > limit:
            raise damaged(self._file, self.name)
        return self.read(self.size)

    def blocks(self) -> Iterator[bytes]:
        """All of it, a megabyte at a time."""
        while block := self.read(_BLOCK):
            yield block

    def lines(self, limit: int) -> Iterator[bytes]:
        """All of it, a line at a time, of at most `limit` bytes."""
        rest: list[bytes] = []
        held = 0
        for block in self.blocks():
            first, *lines = block.split(b"\n")
            rest.append(first)
            held += len(first)
            if held > limit:
                raise WorkspaceError(
                    f"holds a row that does not end within {limit} bytes: {self.name}",
                    where=str(self._file),
                    hint=OTHER_COPY,
                )
            if lines:
                yield b"".join(rest)
                yield from lines[:-1]
                rest, held = lines[-1:], len(lines[-1])
        if held:
            yield b"".join(rest)

    def member(self, rows: int | None = None) -> Member:
        """What the manifest should say of it, once it was read to its end."""
        digest = self._digest.hexdigest()
        return Member(name=self.name, size=self._size, sha256=digest, rows=rows)


def read_members(file: Path, bounds: Bounds = BOUNDS) -> Generator[Content]:
    """The members of a backup, each to be read before the next is asked for."""
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(file.open("rb"))
        except OSError as error:
            raise unreadable(error, str(file)) from error
        after, number, names = None, 0, 0
        with _telling(file, _NO_BACKUP):
            packed = raw.peek(2)[:2] == b"\x1f\x8b"
            opened = stack.enter_context(gzip.GzipFile(fileobj=raw)) if packed else raw
        tar = TarReader(Metered(opened, raw, str(file), bounds))
        while True:
            told = f"is cut off or damaged after {after}" if after else _NO_BACKUP
            with _telling(file, told):
                entry = tar.next()
            if entry is None:
                return
            if after is None and entry.name != HEADING:
                raise WorkspaceError(_NO_BACKUP, where=str(file))
            _check_entry(file, entry)
            after, number = entry.name, number + 1
            names += len(entry.name.encode("utf-8", "surrogateescape"))
            if number > bounds.members or names > bounds.names:
                raise WorkspaceError(
                    f"holds more than {bounds.members:,} files, or names of more than "
                    f"{bounds.names / 1e6:.0f} MB together",
                    where=str(file),
                    hint=OTHER_COPY,
                )
            yield Content(file, entry, tar)


@contextmanager
def _telling(file: Path, what: str) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise WorkspaceError(what, where=str(file), hint=OTHER_COPY) from error


def _check_entry(file: Path, entry: Entry) -> None:
    """Refuse whatever is not a plain file of one of a backup's own names."""
    name, parts = entry.name, entry.name.split("/")
    artifact = parts[0] == ARTIFACTS and len(parts) > 1
    # As this system reads the name: it may know other separators.
    safe = not {"", ".", ".."} & set(parts) and "\0" not in name and fitting_name(parts)
    safe = safe and PurePath(name).parts == tuple(parts)
    known = artifact or name in (HEADING, MANIFEST) or PART.fullmatch(name)
    if not (entry.kind in PLAIN and safe and known):
        name = name.rstrip("/") if entry.kind == tarfile.DIRTYPE else name
        shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
        raise WorkspaceError(
            f"holds {shown!r}, which has no place in a backup",
            where=str(file),
            hint="Nothing was taken from it. Do not trust where it came from.",
        )


def _keep(content: Content, draft: Path | None, bounds: Bounds) -> None:
    """Read an artifact, and write it below `draft`, if there is one."""
    if draft is None:
        for _ in content.blocks():
            pass
        return
    require_room(draft, content.size, bounds)
    path = draft / content.name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as opened:
        for block in content.blocks():
            opened.write(block)
        flush_file(opened)
