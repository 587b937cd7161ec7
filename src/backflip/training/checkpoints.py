"""Checkpoints that are whole or not there.

A checkpoint is written into a folder of its own beside the others, flushed to disk, and only then
given its name; a process killed at any instant leaves the last good one as it was. Tensors are
kept bit for bit (safetensors), everything else as JSON: nothing is ever unpickled.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor

from backflip.errors import TrainingError, why_not_written
from backflip.models.files import flush_folder, write_durably

_PREFIX = "step-"
_UNFINISHED = ".unfinished"


@dataclass(frozen=True)
class State:
    """What training needs to go on: tensors by name, and plain values."""

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one stage, in one folder; the newest `keep` stay."""

    def __init__(self, folder: Path, *, keep: int = 1):
        self.folder = folder
        self.keep = keep

    def save(self, step: int, state: State) -> None:
        """Write the state after `step`; earlier checkpoints go once this one is whole.

        Raises:
            TrainingError: the disk is full or not writable; the last checkpoint is intact.
        """
        final = self.folder / f"{_PREFIX}{step:08d}"
        partial = final.with_suffix(_UNFINISHED)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            tensors = {name: tensor.detach().contiguous() for name, tensor in state.tensors.items()}
            write_durably(partial / "tensors.safetensors", save(tensors))
            write_durably(partial / "values.json", json.dumps(dict(state.values)).encode())
            flush_folder(partial)
            if final.exists():
                shutil.rmtree(final)
            partial.rename(final)
            flush_folder(self.folder)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise _disk_error(error, self.folder) from error
        for old in self._finished()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)

    def latest(self) -> tuple[int, State] | None:
        """The newest whole checkpoint as (step, state), or None."""
        found = self._finished()
        if not found:
            return None
        folder = found[-1]
        values = json.loads((folder / "values.json").read_text())
        tensors = load_file(folder / "tensors.safetensors")
        return int(folder.name.removeprefix(_PREFIX)), State(tensors, values)

    def clear(self) -> None:
        """Remove all of them: the stage is done and its result kept elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _finished(self) -> list[Path]:
        return sorted(
            path
            for path in self.folder.glob(f"{_PREFIX}*")
            if path.is_dir() and path.suffix != _UNFINISHED
        )


def _disk_error(error: OSError, folder: Path) -> TrainingError:
    return TrainingError(
        f"{why_not_written(error)}; the last checkpoint is intact",
        where=str(folder),
        hint="Free some space and run the same command again: it goes on from that checkpoint.",
    )
