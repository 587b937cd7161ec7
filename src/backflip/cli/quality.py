"""The command that measures how good feedback is."""

from typing import Annotated, Any

import typer

from backflip.cli.output import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, show, table
from backflip.cli.workspaces import open_workspace
from backflip.errors import NotFoundError


def quality(
    project: Annotated[
        str, typer.Option(metavar="PROJECT", help="Id or name of the project.")
    ] = "main",
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the report for the project's page, too.")
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Say how far annotators agree, and how each of them answers; small samples say so."""
    from backflip.quality.report import measure_quality

    with open_workspace(workspace) as opened:
        known = opened.projects.all()
        chosen = {each.name: each.id for each in known}.get(project, project)
        if chosen not in {each.id for each in known}:
            names = ", ".join(each.name for each in known)
            raise NotFoundError(
                f"no project {project!r}",
                where=str(workspace),
                hint=f"Projects: {names}." if names else "No people have been asked here yet.",
            )
        report = measure_quality(opened, chosen)
        if keep:
            opened.reports.keep(chosen, report)
    show(report, as_json, lambda: _lines(report))


def _lines(report: dict[str, Any]) -> str:
    agreement = [
        {
            "kind": row["kind"],
            "axis": row["axis"],
            "items": row["num_items"],
            "equal": _figure(row["raw"]),
            "alpha": _figure(row["alpha"]),
            "AC": _figure(row["ac"]),
        }
        for row in report["agreement"]
    ]
    people = [
        {
            "annotator": row["annotator"],
            "answers": row["num_answers"],
            "reliability": row["reliability"],
            "checks right": _figure(row["gold"]),
            "too fast": _figure(row["times"]["fast"]),
        }
        for row in report["annotators"]
    ]
    return "\n\n".join(
        [
            f"{report['answers']} answers and {report['checks']} answers to checks",
            f"Agreement\n{table(agreement)}",
            f"Annotators\n{table(people)}",
            f"{len(report['conflicts'])} items on which annotators part",
        ]
    )


def _figure(figure: dict[str, Any]) -> str:
    if "withheld" in figure:
        return figure["withheld"]
    return f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"


def add_to(app: typer.Typer) -> None:
    """Register the command of this file."""
    app.command()(quality)
