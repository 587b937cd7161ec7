"""The report as one HTML file: styles, figures and replies are inside, nothing is fetched."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from backflip.errors import FREE_SPACE, WorkspaceError, why_not_written
from backflip.evaluation.report.gather import Facts, gather
from backflip.evaluation.report.plots import reliability, training_curves, win_rates
from backflip.evaluation.report.words import doubts, headline, round_lines, sources
from backflip.files.durable import whole_file
from backflip.workspace import Workspace


def write_report(workspace: Workspace, run_id: str) -> Path:
    """Write `artifacts/reports/RUN.html`, whole or not at all.

    What models wrote is shown as text, whatever it holds.

    Returns:
        where it lies.

    Raises:
        WorkspaceError: the disk is full or the folder not writable; an earlier report is intact.
    """
    folder = workspace.artifacts / "reports"
    path = folder / f"{run_id}.html"
    page = render(gather(workspace, run_id))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(page.encode())
    except OSError as error:
        raise WorkspaceError(why_not_written(error), where=str(path), hint=FREE_SPACE) from error
    return path


def render(facts: Facts) -> str:
    """The page."""
    environment = Environment(
        loader=PackageLoader("backflip.evaluation.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    tables = {
        f"round {number.number}, {axis}": report.calibration.table if report.calibration else ()
        for number in facts.rounds
        for axis, report in number.reports.items()
    }
    return environment.get_template("page.html").render(
        facts=facts,
        headline=headline(facts),
        doubts=doubts(facts),
        sources=sources(facts),
        win_figure=win_rates(facts.rounds),
        curves=training_curves(facts.rounds),
        reliability=reliability(tables),
        accuracies=_accuracies(facts),
        round_lines=round_lines,
        settings=_settings(facts.recipe),
    )


def _accuracies(facts: Facts) -> list[dict[str, Any]]:
    """One row a part of the held-out pairs: by strength, length and annotator."""
    rows: list[dict[str, Any]] = []
    for number in facts.rounds:
        for axis, report in number.reports.items():
            accuracy = report.accuracy
            if accuracy is None:
                continue
            parts = {
                ("all", ""): accuracy.overall,
                **{("strength", k): v for k, v in accuracy.by_strength.items()},
                **{("preferred was", k): v for k, v in accuracy.by_length.items()},
                **{("annotator", k): v for k, v in accuracy.by_annotator.items()},
            }
            for (part, value), share in parts.items():
                rows.append(
                    {
                        "round": number.number,
                        "axis": axis,
                        "part": f"{part} {value}".strip(),
                        "share": share,
                        "beta": report.reliabilities.get(value),
                    }
                )
    return rows


def _settings(data: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in data.items():
        if isinstance(value, dict) and value:
            rows += _settings(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", str(value)))
    return rows
