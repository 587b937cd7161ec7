"""Where a run starts: the model, and the stages before any feedback is asked for."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from backflip.data.files import may_be_on_hub
from backflip.data.opening import look_up, no_such_file
from backflip.errors import SettingsError, TrainingError
from backflip.feedback.kinds import WRITTEN_KINDS
from backflip.feedback.store import ModelStage
from backflip.loop.stages.keeping import keep_model, made_here, train
from backflip.loop.stages.learnable import learnable

if TYPE_CHECKING:
    from backflip.loop.recipe import Recipe
    from backflip.loop.run import Stage

Result = dict[str, Any]


def start(stage: "Stage") -> Result:
    """Find or make the model that the run starts from, and enter it in the workspace."""
    recipe = stage.recipe
    check_files(recipe)
    stage.domain.prompts()  # what cannot be read, or is too little, is told before any work
    folder = stage.domain.start(stage.folder, seed=stage.seed)
    from_nothing = recipe.prompts.source.startswith("env:") or (
        recipe.pretrain is not None and recipe.pretrain.scratch is not None
    )
    # A model that another run made has a name, and is the parent: what shaped it shaped this one.
    parents = made_here(stage, folder)
    name = None if from_nothing or parents else recipe.model.name
    return {"model": keep_model(stage, "base", folder, name=name, parents=parents)}


def check_files(recipe: "Recipe") -> None:
    """See that the files that the recipe names are there, before hours of work lead up to them.

    Raises:
        SettingsError: one is not; it names the key.
    """
    source, settings = recipe.prompts.source, recipe.algorithm
    named = {
        "prompts.source": () if source.startswith(("env:", "builtin:")) else (source,),
        "pretrain.text": recipe.pretrain.text if recipe.pretrain else (),
        "sft.data": recipe.sft.data if recipe.sft else (),
        "algorithm.ptx_text": getattr(settings, "ptx_text", ()),
    }
    for key, files in named.items():
        for file in files:
            path = Path(file)
            on_hub = key in ("prompts.source", "sft.data") and may_be_on_hub(file)
            if look_up(path) is None and not on_hub:
                raise SettingsError(
                    f"no such file: {file}", where=key, hint=no_such_file(path).hint
                )


def pretrain(stage: "Stage", start: Result) -> Result:
    """Next-token training over text."""
    trainee, save = stage.domain.pretraining(stage.model_folder(start["model"]), seed=stage.seed)
    return {"model": _prepared(stage, "pretrain", trainee, save, start)}


def sft(stage: "Stage", start: Result) -> Result:
    """Supervised fine-tuning on demonstrations: of files, or all that the workspace has.

    What somebody made of a reply by correcting it is a demonstration too.
    """
    folder, recipe = stage.model_folder(start["model"]), stage.recipe
    # An agent reads no text, wherever that comes from: its domain says so.
    if recipe.sft is None or recipe.sft.data or recipe.prompts.source.startswith("env:"):
        trainee, save = stage.domain.finetuning(folder, seed=stage.seed)
        return {"model": _prepared(stage, "sft", trainee, save, start)}
    # A stage of its own, so that one that is cut off goes on with what it began with.
    snapshot = stage.run.stage(f"{stage.key}/shown", shown)["snapshot"]
    # Of a demonstration and of a correction alike, the text that was written comes first.
    ids = [entry.sample_ids[0] for entry in stage.workspace.snapshots.rows(snapshot)]
    found = stage.workspace.samples.get(ids)
    trainee, save = stage.domain.finetuning(
        folder, seed=stage.seed, shown=[found[sample_id] for sample_id in ids]
    )
    return {"model": _prepared(stage, "sft", trainee, save, start, snapshot)}


def shown(stage: "Stage") -> Result:
    """Fix what people wrote and what counts now as a snapshot: demonstrations and corrections.

    Raises:
        TrainingError: there are none that may be learned from.
    """
    written = stage.workspace.journal.active(kinds=WRITTEN_KINDS)
    ids = [entry.id for entry in learnable(stage, written)]
    if not ids:
        raise TrainingError(
            "there are no demonstrations to learn from",
            where="sft.data",
            hint="Name files of demonstrations, or import them into the workspace; those on "
            "prompts that are held out do not count.",
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
    for note in trainee.notes:
        stage.reporter.warn(f"{stage.key}: {note}")
    metrics = train(stage, trainee, title=kind)
    parents = (start["model"],)
    return keep_model(stage, kind, save, parents=parents, snapshot=snapshot, metrics=metrics)
