"""Commands of the whole loop: run, demo, check, report, lineage."""

from pathlib import Path
from typing import Annotated, Any

import typer

from backflip.cli.output import (
    DEFAULT_WORKSPACE,
    DatabaseOption,
    JsonOption,
    OverridesArgument,
    RecipeArgument,
    WorkspaceOption,
    show,
    table,
)
from backflip.cli.results import check_lines
from backflip.cli.workspaces import open_workspace, run_in, standing_or_new
from backflip.errors import WorkspaceError

# A crowd answers a thousand questions in a second, and one more than once; a person does not.
FOR_ONE_PERSON = (
    "feedback.kinds=['comparison']",
    "feedback.samples_per_prompt=2",
    "feedback.prompts=24",
    "feedback.overlap=1",
)


def run(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the whole loop: sample, ask, learn the reward, train, evaluate; round after round.

    The same command goes on where the last one stopped, however it stopped.
    """
    from backflip.loop import load_recipe

    _go(workspace, load_recipe(recipe, overrides or []), as_json=as_json, database=database)


def demo(
    overrides: OverridesArgument = None,
    workspace: WorkspaceOption = Path("backflip-demo"),
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the whole loop on SmolLM2-135M, with a crowd of simulated annotators.

    To take the annotators' place: backflip demo feedback=people, which asks 24 questions a round.
    """
    from backflip.loop import load_recipe
    from backflip.models import has_fast_bfloat16

    name = "demo" if has_fast_bfloat16() else "demo-float32"
    if name != "demo":
        typer.echo(
            "This processor does not multiply bfloat16 natively: the demo takes fewer steps, in "
            "float32.",
            err=True,
        )
    recipe = load_recipe(name, overrides or [])
    if recipe.feedback.source == "people":
        recipe = load_recipe(name, [*FOR_ONE_PERSON, *(overrides or [])])
    _go(workspace, recipe, as_json=as_json, database=database)


def check(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """See whether a recipe can be carried out, without doing it: everything that is wrong at once.

    Reads every prompt and demonstration, holds them to every limit, and makes every part once. Ends
    with status 1 where something keeps the recipe from working. run does the same before its
    first work, and the command of a single stage does it for what this stage uses.
    """
    from backflip.data.scratch import scratch_folder
    from backflip.loop import Run, load_recipe, make_domain
    from backflip.loop.stages.preflight import preflight

    chosen = load_recipe(recipe, overrides or [])
    with standing_or_new(workspace) as opened, scratch_folder() as made:
        run = Run(opened, chosen, make_domain(chosen, opened))
        found = preflight(run, made)
    facts = {
        "works": not found.fatal,
        "problems": [problem.model_dump(exclude={"fatal"}) for problem in found.fatal],
        "warnings": [problem.model_dump(exclude={"fatal"}) for problem in found.warnings],
        "checked": found.facts,
    }
    show(facts, as_json, lambda: check_lines(found))
    if found.fatal:
        raise typer.Exit(1)


def _go(folder: Path, recipe: Any, *, as_json: bool, database: str | None = None) -> None:
    from backflip.evaluation.report import summary, write_report

    with run_in(folder, recipe, database=database) as active:
        results = active.go()
        path = write_report(active.workspace, active.id)
        facts = {
            "run": active.id,
            "report": str(path),
            "rounds": [result.kept() for result in results],
        }
        show(facts, as_json, lambda: f"{summary(active.workspace, active.id)}\n\nReport: {path}")


def report(
    run_id: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="A run's id; the newest run if left out."),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Write the report of a run again: one HTML file that needs nothing else."""
    from backflip.evaluation.report import summary, write_report

    with open_workspace(workspace) as opened:
        runs = opened.runs.all()
        if not runs:
            raise WorkspaceError("there is no run to report on", where=str(workspace))
        chosen = run_id or runs[-1].id
        if chosen not in {known.id for known in runs}:
            told = ", ".join(f"{known.id} ({known.name})" for known in runs[-10:])
            raise WorkspaceError(f"no run {chosen!r}", where=str(workspace), hint=f"Runs: {told}")
        path = write_report(opened, chosen)
        show(
            {"run": chosen, "report": str(path)},
            as_json,
            lambda: f"{summary(opened, chosen)}\n\nReport: {path}",
        )


def lineage(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model's id, the start of it, or its name.")
    ],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Follow a model back to the models, feedback and annotators that shaped it."""
    from backflip.workspace import lineage as trace

    with open_workspace(workspace) as opened:
        found = trace(opened, model)
        facts = {
            "model": found.model.id,
            "models": [m.model_dump(mode="json") for m in found.all_models],
            "snapshots": found.all_snapshots,
            "annotators": found.annotators,
            "entries": [
                {"id": entry.id, **entry.model_dump(mode="json")} for entry in found.all_entries
            ],
        }
        show(facts, as_json, lambda: _lineage_lines(found))


def _lineage_lines(found: Any) -> str:
    models = [
        {"model": m.id, "stage": m.stage, "name": m.name, "trained on": m.snapshot}
        for m in found.all_models
    ]
    people = [{"annotator": name, "entries": n} for name, n in found.annotators.items()]
    return f"{table(models)}\n\n{len(found.all_entries)} feedback entries\n{table(people)}"


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    for command in (run, demo, check, report, lineage):
        app.command()(command)
