"""What every training stage does: train under watch, and keep the model with where it came from."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from backflip.loop.kept_files import is_kept
from backflip.loop.stage import Stage
from backflip.records import content_id
from backflip.training import Trainer, fit
from backflip.workspace import ModelRecord, ModelStage

Save = Callable[[Path, dict[str, Any]], None]
SHOWN = ("loss", "reward", "gold", "kl", "accuracy", "length")


def keep_model(
    stage: "Stage",
    kind: ModelStage,
    source: Path | Save,
    *,
    part: str = "",
    name: str | None = None,
    parents: Sequence[str] = (),
    snapshot: str | None = None,
    metrics: dict[str, Any] | None = None,
) -> str:
    """Enter a model in the workspace: one that lies somewhere, or one that `source` saves.

    Its id follows from the run and the stage, so that doing it again changes nothing.

    Args:
        stage: whose work made the model.
        kind: of model.
        source: the folder where it lies, or a function that writes one.
        part: tells several models of one stage apart.
        name: for people; None for one made of run, stage and part.
        parents: models that it was made from.
        snapshot: feedback that it was trained on.
        metrics: what was measured of it.

    Returns:
        the model's id.
    """
    model_id = content_id("model", stage.run.id, stage.key, part)
    if isinstance(source, Path):
        path = _place(source.resolve(), stage.workspace.artifacts)
    else:
        path = f"models/{model_id}"
        folder = stage.workspace.artifacts / path
        for draft in folder.parent.glob(f".{folder.name}-*"):  # of a process that was killed
            shutil.rmtree(draft, ignore_errors=True)
        if not is_kept(folder):
            record = {
                "model": model_id,
                "stage": kind,
                "parents": list(parents),
                "snapshot": snapshot,
                "run": stage.run.id,
                "metrics": metrics or {},
            }
            source(folder, record)
    stage.workspace.models.register(
        ModelRecord(
            id=model_id,
            name=name or "/".join(filter(None, (stage.recipe.name, stage.key, part))),
            stage=kind,
            path=path,
            parents=tuple(parents),
            snapshot=snapshot,
            run=stage.run.id,
            recipe=stage.recipe.model_dump(mode="json"),
            metrics=metrics or {},
        )
    )
    return model_id


def made_here(stage: "Stage", folder: Path) -> tuple[str, ...]:
    """The id of the model of this workspace that lies in `folder`, if another run has one there."""
    path = _place(Path(folder).resolve(), stage.workspace.artifacts)
    if Path(path).is_absolute():
        return ()
    others = [m for m in stage.workspace.models.all() if m.run != stage.run.id]
    # The first one was made there; later ones are runs that started from it.
    return tuple(m.id for m in others if m.path == path)[:1]


def _place(source: Path, artifacts: Path) -> str:
    """A path as a model's record holds it: within the workspace it moves along with it."""
    if source.is_relative_to(artifacts.resolve()):
        return str(source.relative_to(artifacts.resolve()))
    return str(source)


def train(
    stage: "Stage",
    trainee: Trainer,
    *,
    title: str,
    part: str = "",
    watch: Callable[[int, dict[str, float]], None] | None = None,
) -> dict[str, float]:
    """Train to the end with a progress bar, metrics and checkpoints; the last metrics come back."""
    last: dict[str, float] = {}
    key = f"{stage.key}/{part}" if part else stage.key
    with stage.reporter.bar(title.capitalize(), trainee.num_steps, "steps") as advance:
        seen = 0

        def record(step: int, metrics: dict[str, float]) -> None:
            nonlocal seen
            stage.workspace.metrics.log(stage.run.id, key, step, metrics)
            if watch is not None:
                watch(step, metrics)
            note = "  ".join(f"{n} {metrics[n]:.3g}" for n in SHOWN if n in metrics)
            advance(step - seen, note=note)
            seen = step
            last.clear()
            last.update(metrics)

        fit(
            trainee,
            stage.folder / part if part else stage.folder,
            checkpoint_every=stage.recipe.loop.checkpoint_every,
            record=record,
            warn=lambda told: stage.reporter.warn(f"{key}: {told}"),
        )
    if not last:  # cut off after the last step, before the stage's end
        for series in stage.workspace.metrics.series(stage.run.id, stage=key):
            if series.steps[-1] == trainee.num_steps:
                last[series.name] = series.values[-1]
    return last
