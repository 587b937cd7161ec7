"""Files held to the rows that speak of them, and files that no row speaks of."""

import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backflip.files.manifest import MANIFEST, MISSING, faults
from backflip.workspace.database import schema
from backflip.workspace.doctor.reading import Finding, telling
from backflip.workspace.material.media import MEDIA

_BLOCK = 1 << 20
_LENGTH = 8  # bytes in front of a safetensors header
_ROOMS = ("models", "runs", "reports")


def check_files(connection: Connection, artifacts: Path) -> Iterator[Finding]:
    """Files that rows speak of: there, readable, and as they were written."""
    if not artifacts.is_dir():
        yield Finding(state="lost", what="the folder is gone", where=str(artifacts))
    for name, path in _models(connection):
        folder = artifacts / path
        if PurePosixPath(path).is_absolute():
            if not folder.is_dir():
                told = f"lies outside the workspace and is gone: model {name} was made from it"
                yield Finding(state="note", what=told, where=path)
        elif not folder.is_dir():
            told = f"is gone, and model {name} speaks of it"
            yield Finding(state="lost", what=told, where=str(folder))
        else:
            yield from _check_folder(folder, f"model {name}")
    for stage, path in _trained(connection):
        file = artifacts / path
        if not file.is_file():
            told = f"is gone, and stage {stage} speaks of it"
            yield Finding(state="lost", what=told, where=str(file))
        elif (file.parent / MANIFEST).exists():
            yield from _check_folder(file.parent, f"stage {stage}")
        else:
            yield from _check_file(file)


def _models(connection: Connection) -> list[tuple[str, str]]:
    table = schema.models
    path = sa.type_coerce(table.c.path, sa.Text).label("path")
    rows = connection.execute(sa.select(table.c.name, path).order_by(table.c.number))
    return [(row.name, found) for row in rows if isinstance(found := _json(row.path), str)]


def _trained(connection: Connection) -> Iterator[tuple[str, str]]:
    """Stages that left weights behind from which the next round goes on."""
    table = schema.stages
    result = sa.type_coerce(table.c.result, sa.Text).label("result")
    query = sa.select(table.c.run, table.c.key, result).order_by(table.c.number)
    for row in connection.execute(query):
        told = _json(row.result)
        if isinstance(told, dict) and isinstance(path := told.get("trained"), str):
            yield f"{row.key} of {row.run}", path


def _json(text: Any) -> Any:
    """A value; None for what is none: `check_rows` has told of it."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None


def _check_folder(folder: Path, of: str) -> Iterator[Finding]:
    """The files of a folder, each held to the manifest where there is one."""
    try:
        names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    except OSError as error:
        yield telling("damaged", error, where=str(folder))
        return
    if not names:
        yield Finding(state="lost", what=f"is empty, and {of} speaks of it", where=str(folder))
    if not (folder / MANIFEST).exists():
        for name in names:
            yield from _check_file(folder / name)
        return
    for name, what in faults(folder):
        path = str(folder / name)
        if what == MISSING:
            yield Finding(state="lost", what=f"is gone, and {of} needs it", where=path)
        else:
            yield Finding(state="damaged", what=what, where=path)


def _check_file(path: Path) -> Iterator[Finding]:
    """What a file without a hash tells of itself: whether it ends where it should."""
    try:
        if path.suffix == ".safetensors":
            whole = _is_whole(path)
        elif path.suffix == ".json":
            whole = _json(path.read_bytes()) is not None
        else:
            with path.open("rb") as file:
                while file.read(_BLOCK):
                    pass
            whole = True
    except OSError as error:
        yield telling("damaged", error, where=str(path))
        return
    if not whole:
        yield Finding(state="damaged", what="is cut off or damaged", where=str(path))


def _is_whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        if size < _LENGTH or length > size - _LENGTH:
            return False
        header = _json(file.read(length))
    if not isinstance(header, dict):
        return False
    try:
        ends = [told["data_offsets"][1] for name, told in header.items() if name != "__metadata__"]
        return max(ends, default=0) == size - _LENGTH - length
    except (TypeError, KeyError, IndexError, ValueError):
        return False


def check_strays(connection: Connection, artifacts: Path) -> Iterator[Finding]:
    """Files and folders that no row speaks of."""
    runs = set(connection.execute(sa.select(schema.runs.c.id)).scalars())
    owned = {PurePosixPath(path).parts[:2] for _, path in _models(connection)}
    for room in sorted(_entries(artifacts), key=lambda entry: entry.name):
        if room.name == MEDIA and room.is_dir():  # `check_media` tells of what is in it
            continue
        if room.name not in _ROOMS or not room.is_dir():
            if (room.name,) not in {parts[:1] for parts in owned}:
                yield _stray(Path(room.path))
            continue
        for entry in sorted(_entries(Path(room.path)), key=lambda entry: entry.name):
            name = entry.name.removesuffix(".html") if room.name == "reports" else entry.name
            if not ((room.name, entry.name) in owned or (room.name != "models" and name in runs)):
                yield _stray(Path(entry.path))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except OSError:  # `check_files` has told of it where somebody needs it
        return []


def _stray(path: Path) -> Finding:
    return Finding(state="note", what="no row speaks of it", where=str(path))
