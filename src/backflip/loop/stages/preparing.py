"""Where a run starts: the model, and the stages before any feedback."""

from typing import TYPE_CHECKING, Any

from backflip.feedback.store import ModelStage
from backflip.loop.stages.keeping import keep_model, train

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
    name = None if from_nothing else recipe.model.name
    model = keep_model(stage, "base", folder, name=name)
    return {"model": model}


def pretrain(stage: "Stage", start: Result) -> Result:
    """Next-token training over text."""
    trainee, save = stage.domain.pretraining(stage.model_folder(start["model"]), seed=stage.seed)
    return {"model": _prepared(stage, "pretrain", trainee, save, start)}


def sft(stage: "Stage", start: Result) -> Result:
    """Supervised fine-tuning on demonstrations."""
    trainee, save = stage.domain.finetuning(stage.model_folder(start["model"]), seed=stage.seed)
    return {"model": _prepared(stage, "sft", trainee, save, start)}


def _prepared(stage: "Stage", kind: ModelStage, trainee: Any, save: Any, start: Result) -> str:
    metrics = train(stage, trainee, title=kind)
    return keep_model(stage, kind, save, parents=(start["model"],), metrics=metrics)
