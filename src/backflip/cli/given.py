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

Result = dict[str, Any]


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
    rewards: Result | None = None,
) -> Result:
    """The model that a stage begins with: a named one, or what the recipe comes to before it.

    That the stage can be done is checked first: with the feedback of `snapshot` and the reward
    models of `rewards`, where they are given.
    """
    from backflip.loop import stages

    scoring = [name for names in (rewards or {"rewards": {}})["rewards"].values() for name in names]
    before = stage if stage in ("pretrain", "sft") else None
    if model is not None:
        chosen = acting_model(run, model)
        ahead = [] if before is None else [before]
        run.check(chosen, ahead, snapshot, stage=stage, rewards=scoring)
        run.domain.read_with(run.model_folder(chosen))
        return {"model": chosen}
    ahead = ("pretrain",) if before == "pretrain" else ("pretrain", "sft")
    start = run.start(snapshot, ahead=ahead, stage=stage, rewards=scoring)
    for name in ("pretrain", "sft"):
        if name == before:
            break
        if getattr(run.recipe, name) is not None:
            start = run.stage(name, getattr(stages, name), start)
    return start


def acting_model(run: "Run", name: str) -> str:
    """The id of a model of the workspace that acts."""
    model = run.workspace.models.get(name)
    if model.stage == "reward":
        raise SettingsError(f"{name} is a reward model: it scores, and does not act")
    return model.id


def samples_of(run: "Run", stage: "StageName", model: str | None) -> Result:
    """What the model does with the prompts of the first round, for a stage that needs that."""
    from backflip.loop import stages

    start = start_of(run, stage, model)
    key = "round-1/sample" if model is None else "round-1/" + stage_key("sample", start)
    return run.stage(key, stages.sample, start)


def baseline_of(run: "Run", start: Result, model: str | None) -> Result:
    """What the starting model does with the held-out prompts."""
    from backflip.loop import stages

    key = "baseline" if model is None else stage_key("baseline", start)
    return run.stage(key, stages.baseline, start)


def stage_key(name: str, *inputs: Any) -> str:
    """A key of its own for a stage with inputs that are not the recipe's."""
    from backflip.records import content_id

    return content_id(name, inputs)


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


def rewards_of(run: "Run", names: list[str]) -> Result:
    """Reward models by the axis that they are named for; the recipe's only one needs no name."""
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
    return {"rewards": found}


def rewards_needed(
    run: "Run", names: list[str] | None, snapshot: str | None
) -> tuple[Result, Result]:
    """For an algorithm that learns from a reward: the models, and the feedback behind them."""
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
    first = next(iter(rewards["rewards"].values()))[0]
    return rewards, {"snapshot": run.workspace.models.get(first).snapshot}


def pairs_needed(run: "Run", names: list[str] | None, snapshot: str | None) -> tuple[None, Result]:
    """For an algorithm that learns from pairs: the snapshot that they come from."""
    if names:
        raise SettingsError(
            f"{_algorithm(run)} learns from feedback itself, not from a reward model",
            where="--reward",
        )
    return None, {"snapshot": snapshot_of(run, snapshot)}


def _algorithm(run: "Run") -> str:
    settings: Any = run.recipe.algorithm
    return str(settings.type)
