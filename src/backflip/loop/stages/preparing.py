"""Where a run starts: the model, and the stages before any feedback is asked for."""

import shutil
from collections.abc import Sequence
from typing import Any

from backflip.loop.scope import StageName
from backflip.loop.stage import Stage
from backflip.loop.stages.model_registration import keep_model, made_here, train
from backflip.loop.stages.preflight import preflight, refusal
from backflip.loop.stages.training_data import learnable
from backflip.records.feedback import WRITTEN_KINDS
from backflip.records.plan import PRETRAIN, SFT, SHOWN, START
from backflip.records.results import CheckResult, ModelResult, SnapshotResult
from backflip.training.trainers.language import no_demonstrations
from backflip.workspace import ModelStage


def check(
    stage: Stage,
    model: str | None,
    ahead: Sequence[str],
    snapshot: str | None,
    alone: StageName | None = None,
    rewards: Sequence[str] = (),
) -> CheckResult:
    """See that all stages can be done, or a single one, before any of them is.

    Args:
        stage: whose work it is.
        model: id of the model that work begins with; None: the recipe's.
        ahead: stages that are still to prepare that model.
        snapshot: of feedback that is learned from; None: what the recipe says.
        alone: the only stage that is to be done; None: all of them.
        rewards: ids of reward models that this stage is given.

    Raises:
        SettingsError: something cannot be done; it lists everything.
    """
    # The model that is made here is the one that the run starts from.
    place = stage.run.place(START.name)
    begun = place.exists()
    found = preflight(
        stage.run,
        place,
        model=None if model is None else stage.model_folder(model),
        ahead=ahead,
        snapshot=snapshot,
        stage=alone,
        rewards=[stage.model_folder(reward) for reward in rewards],
    )
    for problem in found.warnings:
        stage.reporter.warn(str(problem))
    if found.fatal:
        if not begun:
            shutil.rmtree(place, ignore_errors=True)
        raise refusal(found)
    return CheckResult(facts=found.facts, warnings=tuple(map(str, found.warnings)))


def start(stage: Stage) -> ModelResult:
    """Find or make the model that the run starts from, and enter it in the workspace."""
    recipe = stage.recipe
    folder = stage.domain.start(stage.folder, seed=stage.seed)
    from_nothing = recipe.prompts.source.startswith("env:") or (
        recipe.pretrain is not None and recipe.pretrain.scratch is not None
    )
    # A model that another run made has a name, and is the parent: what shaped it shaped this one.
    parents = made_here(stage, folder)
    name = None if from_nothing or parents else recipe.model.name
    return ModelResult(model=keep_model(stage, "base", folder, name=name, parents=parents))


def pretrain(stage: Stage, start: ModelResult) -> ModelResult:
    """Next-token training over text."""
    trainee, save = stage.domain.pretraining(stage.model_folder(start.model), seed=stage.seed)
    return _prepared(stage, "pretrain", trainee, save, start)


def sft(stage: Stage, start: ModelResult) -> ModelResult:
    """Supervised fine-tuning on demonstrations: of files, or all that the workspace has.

    What somebody made of a reply by correcting it is a demonstration too.
    """
    folder, recipe = stage.model_folder(start.model), stage.recipe
    # An agent reads no text, wherever that comes from: its domain says so.
    if recipe.sft is None or recipe.sft.data or recipe.prompts.source.startswith("env:"):
        trainee, save = stage.domain.finetuning(folder, seed=stage.seed)
        return _prepared(stage, "sft", trainee, save, start)
    # A stage of its own, so that one that is cut off goes on with what it began with.
    snapshot = stage.run.stage(SHOWN.below(stage.key), shown).snapshot
    # Of a demonstration and of a correction alike, the text that was written comes first.
    ids = [entry.sample_ids[0] for entry in stage.workspace.snapshots.rows(snapshot)]
    found = stage.workspace.samples.get(ids)
    trainee, save = stage.domain.finetuning(
        folder, seed=stage.seed, shown=[found[sample_id] for sample_id in ids]
    )
    return _prepared(stage, "sft", trainee, save, start, snapshot)


def shown(stage: Stage) -> SnapshotResult:
    """Fix what people wrote and what counts now as a snapshot: demonstrations and corrections.

    Raises:
        TrainingError: there are none that may be learned from.
    """
    written = stage.workspace.journal.active(kinds=WRITTEN_KINDS)
    ids = [entry.id for entry in learnable(stage, written)]
    if not ids:
        raise no_demonstrations()
    return SnapshotResult(snapshot=stage.workspace.snapshots.take(ids).id)


def _prepared(
    stage: Stage,
    kind: ModelStage,
    trainee: Any,
    save: Any,
    start: ModelResult,
    snapshot: str | None = None,
) -> ModelResult:
    for note in trainee.notes:
        stage.reporter.warn(f"{stage.key}: {note}")
    metrics = train(stage, trainee, title=kind)
    model = keep_model(
        stage, kind, save, parents=(start.model,), snapshot=snapshot, metrics=metrics
    )
    return ModelResult(model=model)


PREPARE = {PRETRAIN.name: pretrain, SFT.name: sft}
"""The work of the stages that prepare a model, by their names."""
