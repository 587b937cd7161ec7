"""Commands of single stages: the parts of the loop, each on its own.

Each takes a recipe like `run` does. What the recipe does before the stage is done first, once, and
under the keys that `run` uses: `sample`, `label` and `run` with one recipe go on from each other.
A stage of other models or feedback than the recipe's has a key made of what it was given. A stage
that was cut off goes on when the same command is given again.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from backflip.cli.output import (
    DEFAULT_WORKSPACE,
    DatabaseOption,
    JsonOption,
    OverridesArgument,
    RecipeArgument,
    WorkspaceOption,
    show,
)
from backflip.cli.results import (
    evaluation_lines,
    feedback_lines,
    model_lines,
    reply_lines,
    reward_lines,
)
from backflip.cli.stage_inputs import (
    acting_model,
    baseline_of,
    pairs_needed,
    rewards_needed,
    rewards_of,
    samples_of,
    snapshot_of,
    stage_key,
    stages_of,
    start_of,
)
from backflip.cli.workspaces import open_workspace
from backflip.errors import SettingsError

if TYPE_CHECKING:
    from backflip.loop import Run
    from backflip.records.figures import BenchReport
    from backflip.records.results import RewardModels

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="A model of the workspace to start from; none: what the recipe comes to.",
    ),
]
RewardsOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Reward models of the workspace, AXIS=MODEL or MODEL; again for more.",
        metavar="[AXIS=]MODEL",
    ),
]
SnapshotOption = Annotated[
    str | None,
    typer.Option(
        help="A snapshot of feedback; none: all on text, or on the environment, that counts now."
    ),
]


def pretrain(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    model: ModelOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Next-token training over texts, from scratch or from the model of the recipe."""
    _prepare("pretrain", recipe, overrides, workspace, model, database, as_json)


def sft(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    model: ModelOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Supervised fine-tuning on demonstrations, from files or the workspace."""
    _prepare("sft", recipe, overrides, workspace, model, database, as_json)


def _prepare(
    name: Literal["pretrain", "sft"],
    source: str,
    overrides: list[str] | None,
    workspace: Path,
    model: str | None,
    database: str | None,
    as_json: bool,
) -> None:
    from backflip.loop import load_recipe, stages
    from backflip.records.plan import STAGES

    recipe = load_recipe(source, overrides or [])
    if getattr(recipe, name) is None:
        raise SettingsError(
            f"the recipe has no [{name}]",
            where=source,
            hint=f"Write that section, or give its settings here, as in {name}.optimizer."
            "learning_rate=1e-5.",
        )
    if name == "pretrain" and model is not None and getattr(recipe.pretrain, "scratch", None):
        raise SettingsError(
            "the recipe starts from random weights, and so from no model",
            where="--model",
            hint="Leave --model out, or say pretrain.scratch=none.",
        )
    with stages_of(workspace, recipe, database=database) as run:
        kind = STAGES[name]
        start = start_of(run, name, model)
        key = kind.name if model is None else stage_key(kind, start)
        result = run.stage(key, stages.PREPARE[kind.name], start)
        trained = run.workspace.models.get(result.model)
        show(trained.model_dump(mode="json"), as_json, lambda: model_lines(run, trained))


def sample(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    model: ModelOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a model act on the recipe's prompts; the samples are kept in the workspace."""
    from backflip.loop import load_recipe

    with stages_of(workspace, load_recipe(recipe, overrides or []), database=database) as run:
        found = run.workspace.samples.get(samples_of(run, "sample", model).samples)
        rows = [
            {
                "id": s.id,
                "prompt": s.prompt.text,
                "reply": getattr(s.content, "text", None),
                "length": s.content.length,
                "truncated": s.content.truncated,
            }
            for s in found.values()
        ]
        show(rows, as_json, lambda: reply_lines(rows))


def label(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            help="A recipe that says who is asked about what; none with --terminal.",
        ),
    ] = None,
    overrides: OverridesArgument = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    terminal: Annotated[
        bool, typer.Option("--terminal", help="Answer the workspace's open questions yourself.")
    ] = False,
    annotator: Annotated[str, typer.Option(help="Your name, with --terminal.")] = "me",
    only_run: Annotated[
        str | None,
        typer.Option(
            "--run",
            help="With --terminal: answer this run's questions; none: those of the newest run that "
            "is under way, or of all runs where none is.",
        ),
    ] = None,
    model: ModelOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give feedback: as the recipe says (teachers, a judge), or you with --terminal.

    A run that asks people waits for their answers: give them with --terminal, in another window.
    """
    if terminal:
        if recipe is not None:
            raise SettingsError(
                "--terminal takes no recipe: it asks what the workspace's runs put up",
                hint="Leave the recipe out, or --terminal.",
            )
        _label_here(workspace, annotator, only_run, as_json)
        return
    if recipe is None:
        raise SettingsError("name a recipe, or answer yourself with --terminal")
    from backflip.loop import load_recipe, stages
    from backflip.records.plan import FEEDBACK

    with stages_of(workspace, load_recipe(recipe, overrides or []), database=database) as run:
        asked = samples_of(run, "label", model)
        key = FEEDBACK.key(1) if model is None else f"round-1/{stage_key(FEEDBACK, asked)}"
        result = run.stage(key, stages.feedback, asked)
        show(result.kept(), as_json, lambda: feedback_lines(result))


def _label_here(folder: Path, annotator: str, only_run: str | None, as_json: bool) -> None:
    from rich.console import Console

    from backflip.terminal import label_terminal

    with open_workspace(folder) as opened:
        if only_run is not None:
            opened.runs.get(only_run)
        else:
            under_way = [run.id for run in opened.runs.all() if run.status == "running"]
            only_run = under_way[-1] if under_way else None
        # With --json, standard output is the program's; the person reads on the other one.
        console = Console(stderr=True) if as_json else None
        given = label_terminal(opened, annotator, console, run=only_run)
        total = opened.queue.standing(annotator, run=only_run).given
    if as_json:
        show({"answers": given, "in_all": total, "annotator": annotator}, as_json, str)


def reward(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    model: ModelOption = None,
    snapshot: SnapshotOption = None,
    bench: Annotated[
        list[str] | None,
        typer.Option(
            help="Score the trained model on this file of comparisons too (RewardBench's format, "
            "or any other that import reads); again for more.",
            metavar="FILE",
        ),
    ] = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a reward model on the workspace's feedback, and say how far it can be trusted."""
    from backflip.loop import load_recipe, stages
    from backflip.records.plan import REWARD
    from backflip.records.results import SnapshotResult

    with stages_of(workspace, load_recipe(recipe, overrides or []), database=database) as run:
        told = SnapshotResult(snapshot=snapshot_of(run, snapshot))
        start = start_of(run, "reward", model, told.snapshot)
        baseline = baseline_of(run, start, model)
        key = stage_key(REWARD, start, told)
        result = run.stage(key, stages.reward, start, told, baseline)
        scored = _score_files(run, result, bench or [])
        facts = result.kept()
        if scored:
            facts |= {
                "bench": {file: report.model_dump(mode="json") for file, report in scored.items()}
            }
        show(facts, as_json, lambda: reward_lines(result, scored))


def policy(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    model: ModelOption = None,
    reward: RewardsOption = None,
    snapshot: SnapshotOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a policy with the recipe's algorithm: on a reward model, or on pairs of feedback."""
    from backflip.algorithms import consumes
    from backflip.loop import load_recipe, stages
    from backflip.records.plan import POLICY
    from backflip.records.results import SnapshotResult

    settings = load_recipe(recipe, overrides or [])
    with stages_of(workspace, settings, database=database) as run:
        if consumes(settings.algorithm) == "rollouts":
            rewards, told = rewards_needed(run, reward, snapshot)
        else:
            rewards, told = None, pairs_needed(run, reward, snapshot)
        start = start_of(run, "policy", model, None if rewards else told, rewards)
        key = stage_key(POLICY, start, {"snapshot": told}, rewards)
        learned = None if told is None else SnapshotResult(snapshot=told)
        result = run.stage(key, stages.policy, start, start, learned, rewards)
        trained = run.workspace.models.get(result.model)
        show(trained.model_dump(mode="json"), as_json, lambda: model_lines(run, trained))


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="The model of the workspace to measure.")
    ],
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    against: Annotated[
        str | None,
        typer.Option(
            help="The model of the workspace to hold it against; none: what the recipe comes to "
            "before any feedback."
        ),
    ] = None,
    reward: RewardsOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold a model against another on held-out prompts: win rate, distance, length, gold."""
    from backflip.loop import load_recipe, stages
    from backflip.records.plan import EVALUATE
    from backflip.records.results import ModelResult

    with stages_of(workspace, load_recipe(recipe, overrides or []), database=database) as run:
        chosen = ModelResult(model=acting_model(run, model))
        rewards = rewards_of(run, reward) if reward else None
        start = start_of(run, "evaluate", against, rewards=rewards)
        baseline = baseline_of(run, start, against)
        key = stage_key(EVALUATE, start, chosen, rewards)
        result = run.stage(key, stages.evaluate, start, baseline, chosen, rewards)
        show(result.kept(), as_json, lambda: evaluation_lines(result))


def _score_files(run: "Run", models: "RewardModels", files: list[str]) -> "dict[str, BenchReport]":
    """How good the models are on each of the files."""
    if not files:
        return {}
    from backflip.loop import Stage
    from backflip.loop.stages.benchmarks import score_file

    stage: Stage = Stage(run, "bench")
    scores: dict[str, BenchReport] = {}
    with run.reporter.bar("Benchmarks", len(files), "files") as advance:
        for file in files:
            scores[file] = score_file(stage, models, file)
            advance(1)
    return scores


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    for command in (pretrain, sft, sample, label, reward, policy, evaluate):
        app.command()(command)
