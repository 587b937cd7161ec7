"""What a stage is given: a run, the model to begin with, feedback, reward models."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backflip.cli.workspaces import run_in
from backflip.errors import SettingsError, WorkspaceError

if TYPE_CHECKING:
    from backflip.loop import Recipe, Run
    from backflip.loop.scope import StageName
    from backflip.records.plan import StageKind
    from backflip.records.results import ModelResult, RewardModels, RolloutResult


@contextmanager
def stages_of(folder: Path, recipe: "Recipe", *, database: str | None = None) -> Iterator["Run"]:
    """A run of the recipe to do single stages of, with nobody else at work on it."""
    with run_in(folder, recipe, database=database) as run, run.alone():
        run.begin()
        yield run


def start_of(
    run: "Run",
    stage: "StageName",
    model: str | None,
    snapshot: str | None = None,
    rewards: "RewardModels | None" = None,
) -> "ModelResult":
    """The model that a stage begins with: a named one, or what the recipe comes to before it.

    That the stage can be done is checked first: with the feedback of `snapshot` and the reward
    models of `rewards`, where they are given.
    """
    from backflip.records.plan import PREPARING
    from backflip.records.results import ModelResult

    scoring = [name for names in (rewards.rewards if rewards else {}).values() for name in names]
    before = next((kind for kind in PREPARING if kind.name == stage), None)
    if model is not None:
        chosen = acting_model(run, model)
        ahead = [] if before is None else [before.name]
        run.check(chosen, ahead, snapshot, stage=stage, rewards=scoring)
        run.domain.read_with(run.model_folder(chosen))
        return ModelResult(model=chosen)
    return run.prepared(before, snapshot, stage=stage, rewards=scoring)


def acting_model(run: "Run", name: str) -> str:
    """The id of a model of the workspace that acts."""
    model = run.workspace.models.get(name)
    if model.stage == "reward":
        raise SettingsError(f"{name} is a reward model: it scores, and does not act")
    return model.id


def samples_of(run: "Run", stage: "StageName", model: str | None) -> "RolloutResult":
    """What the model does with the prompts of the first round, for a stage that needs that."""
    from backflip.loop import stages
    from backflip.records.plan import SAMPLE

    start = start_of(run, stage, model)
    key = SAMPLE.key(1) if model is None else f"round-1/{stage_key(SAMPLE, start)}"
    return run.stage(key, stages.sample, start)


def baseline_of(run: "Run", start: "ModelResult", model: str | None) -> "RolloutResult":
    """What the starting model does with the held-out prompts."""
    from backflip.loop import stages
    from backflip.records.plan import BASELINE

    key = BASELINE.name if model is None else stage_key(BASELINE, start)
    return run.stage(key, stages.baseline, start)


def stage_key(kind: "StageKind[Any]", *inputs: Any) -> str:
    """A key of its own for a stage with inputs that are not the recipe's.

    Args:
        kind: the stage.
        inputs: results that it is given, or what JSON can hold of them.
    """
    from backflip.records import content_id
    from backflip.records.results import StageResult

    told = [each.kept() if isinstance(each, StageResult) else each for each in inputs]
    return content_id(kind.name, told)


def snapshot_of(run: "Run", named: str | None) -> str:
    """A snapshot of all that counts now and may be learned from, or the named one."""
    from backflip.loop.stages.training_data import learnable

    workspace = run.workspace
    if named is not None:
        workspace.snapshots.rows(named)
        return named
    told = workspace.journal.active()
    entries = learnable(run, told)
    if not entries:
        unfit = "; what there is stands on prompts that are held out or of another kind"
        raise WorkspaceError(
            f"there is no feedback to learn from{unfit if told else ''}",
            where=str(workspace.root),
            hint="Import some (backflip feedback import FILE), or ask for it (backflip label).",
        )
    return workspace.snapshots.take([entry.id for entry in entries]).id


def rewards_of(run: "Run", names: list[str]) -> "RewardModels":
    """Reward models by the axis that they are named for; the recipe's only one needs no name."""
    from backflip.records.results import RewardModels

    axes = run.recipe.reward.axes
    found: dict[str, list[str]] = {}
    for name in names:
        axis, _, reference = name.rpartition("=")
        model = run.workspace.models.get(reference)
        if model.stage != "reward":
            raise SettingsError(f"{reference} is a {model.stage} model, not a reward model")
        found.setdefault(axis or (axes[0] if len(axes) == 1 else "overall"), []).append(model.id)
    if missing := set(axes) - set(found):
        raise SettingsError(
            f"no reward model for axis {min(missing)!r}",
            where="--reward",
            hint=f"Name one: --reward {min(missing)}=MODEL; backflip models lists them.",
        )
    return RewardModels(rewards={axis: tuple(members) for axis, members in found.items()})


def rewards_needed(
    run: "Run", names: list[str] | None, snapshot: str | None
) -> "tuple[RewardModels, str | None]":
    """For an algorithm that learns from a reward: the models, and the snapshot behind them."""
    algorithm = _algorithm(run)
    if snapshot is not None:
        raise SettingsError(
            f"{algorithm} learns from reward models, not from a snapshot", where="--snapshot"
        )
    if not names:
        raise SettingsError(
            f"{algorithm} needs a reward model",
            where="--reward",
            hint="Train one (backflip reward) and name it: --reward MODEL; "
            "backflip models lists those there are.",
        )
    rewards = rewards_of(run, names)
    first = next(iter(rewards.rewards.values()))[0]
    return rewards, run.workspace.models.get(first).snapshot


def pairs_needed(run: "Run", names: list[str] | None, snapshot: str | None) -> str:
    """For an algorithm that learns from pairs: the snapshot that they come from."""
    if names:
        raise SettingsError(
            f"{_algorithm(run)} learns from feedback itself, not from a reward model",
            where="--reward",
        )
    return snapshot_of(run, snapshot)


def _algorithm(run: "Run") -> str:
    settings: Any = run.recipe.algorithm
    return str(settings.type)
