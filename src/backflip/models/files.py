"""Files and folders that are there whole or not at all, a model's record, and the cache."""

import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from backflip.errors import (
    FREE_SPACE,
    BackflipError,
    DamageError,
    ModelError,
    why_not_read,
    why_not_written,
)
from backflip.files.manifest import seal

RECORD = "backflip.json"
AS_IT_WAS = "Put the file back as it was, from a backup for instance."
_TRIAL_BYTES = 64 << 10
# How the writers of tensors and of tokenizers, which are not Python, end what the system told them.
_SYSTEM_FAULT = re.compile(r"\(os error (\d+)\)$")


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
    the renaming, so that a power cut cannot leave a whole folder of half-written files. The last
    one is the manifest, which they are held to when the folder is read (see
    `backflip.files.manifest`).

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
        with _told_in_words(target):
            yield draft
            seal(draft)
            flush_tree(draft)
            _put_in_place(draft, target, replace=replace)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _beside(target: Path) -> Path:
    return target.parent / f".{target.name}-{secrets.token_hex(6)}"


def flush_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _told_in_words(target: Path) -> Iterator[None]:
    """Whatever the system refuses while `target` is written becomes a `ModelError`."""
    try:
        yield
    except BackflipError:
        raise
    except Exception as error:
        refused = _refused(error) or _asked(target.parent)
        if refused is None:
            raise
        raise _cannot_write(target, refused) from error


def _refused(error: Exception) -> OSError | None:
    """The system's refusal behind an error; None where it is a fault of another kind."""
    if isinstance(error, OSError):
        return error
    # Tokenizers raise a bare Exception; a class below it comes from elsewhere.
    if type(error) in (Exception, SafetensorError) and (found := _SYSTEM_FAULT.search(str(error))):
        number = int(found[1])
        return OSError(number, os.strerror(number))
    return None


def _asked(folder: Path) -> OSError | None:
    """What the system says to a small file in `folder` now; None where it takes one.

    Writers that are not Python tell its refusals in words of their own.
    """
    trial = folder / f".trial-{secrets.token_hex(6)}"
    try:
        with trial.open("wb") as file:
            file.write(bytes(_TRIAL_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    finally:
        trial.unlink(missing_ok=True)
    return None


def _cannot_write(target: Path, error: OSError) -> ModelError:
    return ModelError(why_not_written(error), where=str(target), hint=FREE_SPACE)


def flush_tree(folder: Path) -> None:
    """Wait until the disk has a folder, and all files and names in it and below."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            flush_folder(path)
    flush_folder(folder)


def _put_in_place(draft: Path, target: Path, *, replace: bool) -> None:
    if replace and target.exists():
        old = _beside(target)
        target.rename(old)
        try:
            draft.rename(target)
        except OSError:
            old.rename(target)
            raise
        try:
            flush_folder(target.parent)  # the old one goes when the disk has the new one's name
        finally:
            shutil.rmtree(old, ignore_errors=True)
        return
    try:
        draft.rename(target)
    except OSError:
        # Another process was faster. Its folder is whole, because it came here the same way.
        if not target.is_dir():
            raise
    flush_folder(target.parent)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file.

    Raises:
        DamageError: the file is missing, cut off, or no such file.
    """
    try:
        return load_file(path)
    except OSError as error:
        told = f"{path.name} {why_not_read(error)}"
        raise DamageError(told, where=str(path.parent), hint=AS_IT_WAS) from None
    except Exception as error:  # whatever a broken file makes the reader trip over
        told = f"{path.name} holds no tensors that can be read: {error}"
        raise DamageError(told, where=str(path.parent), hint=AS_IT_WAS) from None


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
    except OSError as error:
        raise ModelError(why_not_read(error), where=str(path), hint=AS_IT_WAS) from None
    except (ValueError, RecursionError) as error:
        told = f"is not valid JSON: {error}"
        raise ModelError(told, where=str(path), hint=AS_IT_WAS) from None
    if not isinstance(record, dict):
        raise ModelError("is not a JSON object", where=str(path), hint=AS_IT_WAS)
    return record
