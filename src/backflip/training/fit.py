"""The one loop that every training stage runs in: resume, step, record, checkpoint."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from backflip.errors import BackflipError, TrainingError
from backflip.training.checkpoints import Checkpoints, State

Record = Callable[[int, dict[str, float]], None]


class Trainer(Protocol):
    """A stage's training. All that one step draws at random comes from its seed and `step`."""

    num_steps: int

    def step(self, step: int) -> dict[str, float]:
        """Do step number `step`, counted from 0, and say what was measured."""
        ...

    def state(self) -> State: ...

    def load_state(self, state: State) -> None: ...


def fit(
    trainee: Trainer,
    folder: Path,
    *,
    checkpoint_every: int,
    record: Record,
    warn: Callable[[str], None] = warnings.warn,
) -> None:
    """Train to the end, from the last whole checkpoint in `folder` if there is one.

    Killed at any instant and called again, the trainee ends with the same weights, bit for bit on
    one CPU: a step depends on the state before it, the seed and its number alone.

    Args:
        trainee: what is trained.
        checkpoint_every: steps between two checkpoints; the last step has one too.
        folder: where this stage's checkpoints lie; nothing else is in it.
        record: called after each step with the steps done and the metrics. A step that is done
            again after a resume is recorded again, with the same values.
        warn: told of checkpoints that are damaged.

    Raises:
        TrainingError: a loss that is not finite, or a full disk; the last checkpoint is intact. Or
            the checkpoint is not of this training.
    """
    checkpoints = Checkpoints(folder, warn=warn)
    found = checkpoints.latest()
    done = 0
    if found is not None:
        done, state = found
        try:
            trainee.load_state(state)
        except BackflipError as error:
            raise TrainingError(
                f"the checkpoint at step {done} cannot be gone on from: {error.what}",
                where=str(checkpoints.place(done)),
                hint="It is of another training, or damaged. Remove that folder to go on from the "
                "checkpoint before it, or from the beginning where there is none.",
            ) from error
        if done > trainee.num_steps:
            raise TrainingError(
                f"the checkpoint is at step {done}, beyond the {trainee.num_steps} asked for",
                where=str(folder),
            )
    while done < trainee.num_steps:
        metrics = trainee.step(done)
        done += 1
        record(done, metrics)
        if done % checkpoint_every == 0 or done == trainee.num_steps:
            checkpoints.save(done, trainee.state())
