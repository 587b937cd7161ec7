"""Where a run starts: the model, and the stages before any feedback is asked for."""

from typing import TYPE_CHECKING, Any

from backflip.errors import TrainingError
from backflip.feedback.kinds import Demonstration
from backflip.feedback.store import ModelStage
from backflip.loop.stages.keeping import keep_model, made_here, train
from backflip.records import Completion

if TYPE_CHECKING:
    from backflip.loop.run import Stage

Result = dict[str, Any]


def start(stage: "Stage") -> Result:
    """Find or make the model that the run starts from, and enter it in the workspace."""
    recipe = stage.recipe
    folder = stage.domain.start(stage.folder, seed=stage.seed)
    from_nothing = recipe.prompts.source.startswith("env:") or (
        recipe.pretrain is not None and recipe.pretrain.scratch is not None
    )
    # A model that another run made has a name, and is the parent: what shaped it shaped this one.
    parents = made_here(stage, folder)
    name = None if from_nothing or parents else recipe.model.name
    return {"model": keep_model(stage, "base", folder, name=name, parents=parents)}


def pretrain(stage: "Stage", start: Result) -> Result:
    """Next-token training over text."""
    trainee, save = stage.domain.pretraining(stage.model_folder(start["model"]), seed=stage.seed)
    return {"model": _prepared(stage, "pretrain", trainee, save, start)}


def sft(stage: "Stage", start: Result) -> Result:
    """Supervised fine-tuning on demonstrations: of files, or all that the workspace has."""
    folder, recipe = stage.model_folder(start["model"]), stage.recipe
    # An agent reads no text, wherever that comes from: its domain says so.
    if recipe.sft is None or recipe.sft.data or recipe.prompts.source.startswith("env:"):
        trainee, save = stage.domain.finetuning(folder, seed=stage.seed)
        return {"model": _prepared(stage, "sft", trainee, save, start)}
    # A stage of its own, so that one that is cut off goes on with what it began with.
    snapshot = stage.run.stage(f"{stage.key}/shown", shown)["snapshot"]
    ids = [entry.sample_ids[0] for entry in stage.workspace.snapshots.rows(snapshot)]
    found = stage.workspace.samples.get(ids)
    trainee, save = stage.domain.finetuning(
        folder, seed=stage.seed, shown=[found[sample_id] for sample_id in ids]
    )
    return {"model": _prepared(stage, "sft", trainee, save, start, snapshot)}


def shown(stage: "Stage") -> Result:
    """Fix the demonstrations in text that count now as a snapshot.

    Raises:
        TrainingError: there are none.
    """
    entries = stage.workspace.journal.active(kinds="demonstration")
    told = [entry for entry in entries if isinstance(entry, Demonstration)]
    found = stage.workspace.samples.get({entry.sample for entry in told})
    ids = [entry.id for entry in told if isinstance(found[entry.sample].content, Completion)]
    if not ids:
        raise TrainingError(
            "there are no demonstrations to learn from",
            where="sft.data",
            hint="Name files of demonstrations, or import them into the workspace.",
        )
    return {"snapshot": stage.workspace.snapshots.take(ids).id}


def _prepared(
    stage: "Stage",
    kind: ModelStage,
    trainee: Any,
    save: Any,
    start: Result,
    snapshot: str | None = None,
) -> str:
    metrics = train(stage, trainee, title=kind)
    parents = (start["model"],)
    return keep_model(stage, kind, save, parents=parents, snapshot=snapshot, metrics=metrics)
