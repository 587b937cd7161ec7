"""Folders that are there whole or not at all, and sealed by a manifest."""

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from backflip.errors import FREE_SPACE, BackflipError, ModelError, why_not_written
from backflip.files.durable import flush_folder, flush_tree
from backflip.files.manifest import seal

_TRIAL_BYTES = 64 << 10
# How the writers of tensors and of tokenizers, which are not Python, end what the system told them.
_SYSTEM_FAULT = re.compile(r"\(os error (\d+)\)$")


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
