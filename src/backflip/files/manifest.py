"""Folders whose every file is held to a hash when it is read.

The manifest is the last file that is written into a folder: the size and the SHA-256 of each file
beside it and below, what the writer says about the folder, and its own hash.

    {"content": {"files": {"values.json": {"size": 31, "sha256": "..."}}, "about": {"step": 4}},
     "sha256": "..."}

A folder without one, as others make them and older versions did, is held to nothing here.
"""

import hashlib
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from backflip.errors import DamageError, why_not_read

MANIFEST = "backflip-manifest.json"
CHANGED = (
    "Put the folder back as it was, from a backup for instance. Where the change is meant, "
    f"remove {MANIFEST} from it: it is then read as it is."
)
OTHER, MISSING = "is not what was written", "is missing"
_Stamps = tuple[tuple[str, tuple[int, ...]], ...]


def seal(folder: Path, **about: Any) -> None:
    """Write the manifest of all files in a folder; what it says lasts once it is flushed.

    Args:
        folder: complete but for the manifest; one that is there gives way.
        about: JSON values that `require_whole` gives back.

    Raises:
        OSError: a file cannot be read, or the manifest not be written.
    """
    names = [name for name in _files(folder) if name != MANIFEST]
    content = {"files": {name: _of_file(folder / name) for name in names}, "about": about}
    text = json.dumps({"content": content, "sha256": _hash_json(content)}, indent=1)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def require_whole(folder: Path) -> dict[str, Any] | None:
    """Hold a folder to its manifest.

    What was found whole is read again only where the system tells of a change since.

    Returns:
        what the writer said about the folder; None for a folder without a manifest.

    Raises:
        DamageError: a file is missing, is not what was written, or was added; it is named. Hidden
            files and notes (`.md`) may be added.
    """
    folder = folder.resolve()
    try:
        if not (folder / MANIFEST).exists():
            return None
        if not (folder / MANIFEST).is_file():
            raise _damage(folder, MANIFEST, "is no file")
        stamps = tuple((name, _stamp(folder / name)) for name in _files(folder))
    except OSError as error:
        raise DamageError(why_not_read(error), where=str(folder), hint=CHANGED) from None
    return json.loads(_check(folder, stamps))


@lru_cache(maxsize=256)
def _check(folder: Path, stamps: _Stamps) -> str:
    """Read every file of a folder; returns what was said about it, as JSON.

    Args:
        folder: with a manifest.
        stamps: what the system says of each file, which is another after a change.
    """
    content = _read_manifest(folder)
    for name, what in _faults(folder, content["files"], {name for name, _ in stamps}):
        raise _damage(folder, name, what)
    return json.dumps(content["about"])


def faults(folder: Path) -> Iterator[tuple[str, str]]:
    """All that is not as it was in a folder with a manifest: each file, and what is wrong with it.

    A file that is not there `is missing`.

    Raises:
        OSError: the folder cannot be listed.
    """
    try:
        content = _read_manifest(folder)
    except DamageError:
        yield MANIFEST, OTHER
    else:
        yield from _faults(folder, content["files"], set(_files(folder)))


def _faults(
    folder: Path, files: dict[str, dict[str, Any]], found: set[str]
) -> Iterator[tuple[str, str]]:
    for name, noted in files.items():
        path = folder / name
        if name not in found:
            yield name, "is no file" if path.exists() else MISSING
            continue
        try:
            same = _of_file(path) == noted
        except OSError as error:
            yield name, why_not_read(error)
            continue
        if not same:
            yield name, OTHER
    for name in sorted(found - files.keys() - {MANIFEST}):
        if not (name.endswith(".md") or any(part.startswith(".") for part in Path(name).parts)):
            yield name, "was not there when the folder was written"


def _damage(folder: Path, name: str, what: str) -> DamageError:
    return DamageError(f"{name} {what}", where=str(folder), hint=CHANGED)


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        content = found["content"]
        if found["sha256"] == _hash_json(content) and _has_shape(content):
            return content
    except OSError as error:
        raise _damage(folder, MANIFEST, why_not_read(error)) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise _damage(folder, MANIFEST, OTHER)


def _has_shape(content: Any) -> bool:
    """Whether it is what `seal` writes; a right hash says only that somebody meant it."""
    if not isinstance(content, dict):
        return False
    files, about = content.get("files"), content.get("about")
    return isinstance(files, dict) and isinstance(about, dict)


def _files(folder: Path) -> list[str]:
    """Paths of all files in a folder and below, relative to it."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def _of_file(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": hash_file(path)}


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp(path: Path) -> tuple[int, ...]:
    told = path.stat()
    return (told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns)


def _hash_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
