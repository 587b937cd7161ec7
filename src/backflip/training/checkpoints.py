"""Checkpoints that are whole or not there.

A checkpoint is written into a folder of its own beside the others, flushed to disk, and only then
given its name; a process killed at any instant leaves the last good one as it was. Each carries a
manifest of hashes (see `backflip.files.manifest`): one that was damaged since is told, and the one
before is used. Tensors are kept bit for bit (safetensors), everything else as JSON: nothing is
ever unpickled.
"""

import json
import math
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from backflip.errors import DamageError, TrainingError, why_not_read, why_not_written
from backflip.files.durable import flush_folder, flush_tree
from backflip.files.manifest import require_whole, seal
from backflip.models.files import read_tensors

_NAME = re.compile(r"step-(\d{8,18})")
_UNFINISHED = ".unfinished"
TENSORS, VALUES = "tensors.safetensors", "values.json"


@dataclass(frozen=True)
class State:
    """What training needs to go on: tensors by name, and plain values."""

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]

    def numbers(self, name: str, like: Mapping[str, float]) -> dict[str, float]:
        """The numbers kept under a name, of which there must be those of `like` and no others.

        Raises:
            TrainingError: there are not, or one is not finite.
        """
        found = self.values.get(name)
        if (
            isinstance(found, dict)
            and found.keys() == like.keys()
            and all(type(number) in (int, float) for number in found.values())
            and all(map(math.isfinite, found.values()))
        ):
            return found
        wanted = ", ".join(like) or "nothing"
        raise TrainingError(f"holds {found!r} as the state of the {name}, which is of {wanted}")


class Checkpoints:
    """The checkpoints of one stage, in one folder; the newest `keep` stay.

    Args:
        folder: where they lie.
        keep: how many stay, so that one stands in for another that is damaged. While the next is
            written there is one fewer: the disk never holds more than `keep`, or two.
        warn: told of checkpoints that are damaged.
    """

    def __init__(self, folder: Path, *, keep: int = 2, warn: Callable[[str], None] = warnings.warn):
        self.folder = folder
        self.keep = keep
        self.warn = warn

    def place(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.folder / f"step-{step:08d}"

    def save(self, step: int, state: State) -> None:
        """Write the state after `step`; checkpoints of later steps, which were damaged, go.

        Raises:
            TrainingError: the disk is full or not writable; the last checkpoint is intact.
        """
        final = self.place(step)
        partial = final.with_suffix(_UNFINISHED)
        self._make_room(step)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _remove(partial)
            partial.mkdir()
            tensors = {name: tensor.detach().contiguous() for name, tensor in state.tensors.items()}
            (partial / TENSORS).write_bytes(save(tensors))
            (partial / VALUES).write_bytes(json.dumps(dict(state.values)).encode())
            seal(partial, step=step)
            flush_tree(partial)
            _remove(final)
            partial.rename(final)
            flush_folder(self.folder)
        except OSError as error:
            _remove(partial)
            raise _disk_error(error, self.folder) from error
        for old in self._finished()[: -self.keep]:
            _remove(old)

    def latest(self) -> tuple[int, State] | None:
        """The newest whole checkpoint as (step, state), or None.

        One that is damaged is told, and so is what comes instead. It stays until the next is
        written: whatever keeps it from being read may pass.
        """
        damaged: list[DamageError] = []
        found: tuple[int, State] | None = None
        for folder in reversed(self._finished()):
            try:
                found = _read(folder)
                break
            except DamageError as error:
                damaged.append(error)
        before = "it begins again" if found is None else f"it goes on from step {found[0]}"
        for error in damaged:
            self.warn(f"a checkpoint is damaged, so {before}: {error.where}: {error.what}")
        return found

    def clear(self) -> None:
        """Remove all of them: the stage is done and its result kept elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make_room(self, step: int) -> None:
        """Take away what a checkpoint of `step` makes needless, but for one to fall back on."""
        finished = self._finished()
        earlier = [path for path in finished if _step(path) < step]
        later = [path for path in finished if _step(path) > step]
        for path in (*later, *earlier[: -max(self.keep - 1, 1)]):
            _remove(path)

    def _finished(self) -> list[Path]:
        found = [path for path in self.folder.glob("step-*") if _NAME.fullmatch(path.name)]
        return sorted(found, key=_step)


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _read(folder: Path) -> tuple[int, State]:
    """A checkpoint; a `DamageError` where it is not what was written, or not a checkpoint."""
    step = _step(folder)
    about = require_whole(folder)
    if about is not None and about.get("step") != step:
        raise DamageError(f"is the checkpoint of step {about.get('step')}", where=str(folder))
    try:
        values: Any = json.loads((folder / VALUES).read_text(encoding="utf-8"))
    except OSError as error:
        raise DamageError(f"{VALUES} {why_not_read(error)}", where=str(folder)) from None
    except (ValueError, RecursionError) as error:
        raise DamageError(f"{VALUES} is not valid JSON: {error}", where=str(folder)) from None
    if not isinstance(values, dict):
        raise DamageError(f"{VALUES} is not a JSON object", where=str(folder))
    return step, State(read_tensors(folder / TENSORS), values)


def _remove(path: Path) -> None:
    """Take away a folder, or what stands in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _disk_error(error: OSError, folder: Path) -> TrainingError:
    return TrainingError(
        f"{why_not_written(error)}; the last checkpoint is intact",
        where=str(folder),
        hint="Free some space and run the same command again: it goes on from that checkpoint.",
    )
