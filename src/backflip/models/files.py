"""Folders that are there whole or not at all, the record kept in them, and the cache."""

import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backflip.errors import ModelError

RECORD = "backflip.json"


def cache_folder() -> Path:
    """Where converted models are kept: `BACKFLIP_CACHE`, else the platform's cache folder."""
    if named := os.environ.get("BACKFLIP_CACHE"):
        return Path(named).expanduser()
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "backflip"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "backflip"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "backflip"


@contextmanager
def new_folder(target: Path, *, replace: bool) -> Iterator[Path]:
    """Fill a folder beside `target` that takes its name only when the block ends well.

    A process that dies on the way leaves `target` as it was. Files are flushed to the disk before
    the renaming, so that a power cut cannot leave a whole folder of half-written files.

    Args:
        target: the folder to make; its parents are made too.
        replace: whether a folder that is there already gives way, or stays and wins.

    Raises:
        ModelError: the folder cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = _beside(target)
        draft.mkdir()
    except OSError as error:
        raise _cannot_write(target, error) from None
    try:
        yield draft
        _flush(draft)
        _put_in_place(draft, target, replace=replace)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _beside(target: Path) -> Path:
    return target.parent / f".{target.name}-{secrets.token_hex(6)}"


def _cannot_write(target: Path, error: OSError) -> ModelError:
    return ModelError(
        f"cannot be written: {error.strerror or error}",
        where=str(target),
        hint="Check the free space of the disk and the rights on the folder.",
    )


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _put_in_place(draft: Path, target: Path, *, replace: bool) -> None:
    if replace and target.exists():
        old = _beside(target)
        target.rename(old)
        try:
            draft.rename(target)
        except OSError:
            old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
        return
    try:
        draft.rename(target)
    except OSError:
        # Another process was faster. Its folder is whole, because it came here the same way.
        if not target.is_dir():
            raise


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Keep `record` beside the weights, as `backflip.json`."""
    text = json.dumps(dict(record), indent=2, sort_keys=True, allow_nan=False)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")


def read_record(folder: Path) -> dict[str, Any]:
    """The record in a model's folder; empty for a folder that Backflip did not write.

    Raises:
        ModelError: the file is there and is not a JSON object.
    """
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"is not valid JSON: {error}", where=str(path)) from None
    if not isinstance(record, dict):
        raise ModelError("is not a JSON object", where=str(path))
    return record
