"""Results of stages as a reader sees them."""

from typing import TYPE_CHECKING, Any

from backflip.cli.output import table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backflip.loop import Run
    from backflip.records.figures import BenchReport, KeptShare, RewardFigures
    from backflip.records.problems import Findings, Problem
    from backflip.records.results import EvaluationResult, FeedbackResult, RewardResult
    from backflip.workspace import ModelRecord


def model_lines(run: "Run", model: "ModelRecord") -> str:
    """A trained model: what it is, where it lies, and its last metrics."""
    rows = [{"metric": name, "value": value} for name, value in model.metrics.items()]
    folder = run.workspace.models.folder(model)
    return f"{model.stage} model {model.id} ({model.name})\n{folder}\n\n{table(rows)}"


def check_lines(found: "Findings") -> str:
    """What was checked, and everything that is wrong, each with what to do about it."""
    checked = [
        {"checked": part, "": ", ".join(f"{name} {number}" for name, number in figures.items())}
        for part, figures in found.facts.items()
    ]
    sections = [table(checked)]
    if found.warnings:
        sections.append(f"Warnings:\n{_problem_lines(found.warnings)}")
    if found.fatal:
        sections.append(f"This keeps the recipe from working:\n{_problem_lines(found.fatal)}")
    else:
        sections.append("The recipe can be carried out.")
    return "\n\n".join(sections)


def _problem_lines(problems: "Sequence[Problem]") -> str:
    """Problems, one a line; what mends several of them is said once, below them."""
    by_hint: dict[str | None, list[str]] = {}
    for problem in problems:
        by_hint.setdefault(problem.hint, []).append(f"  {problem}")
    return "\n".join(
        "\n".join([*lines, f"  -> {hint}"] if hint else lines) for hint, lines in by_hint.items()
    )


def reply_lines(rows: list[dict[str, Any]]) -> str:
    """Samples, each below its prompt."""
    return "\n\n".join(
        f"{row['id']}\n> {row['prompt']}\n{_reply(row)}{' (cut off)' if row['truncated'] else ''}"
        for row in rows
    )


def _reply(row: dict[str, Any]) -> str:
    return f"a clip of {row['length']} steps" if row["reply"] is None else str(row["reply"])


def feedback_lines(result: "FeedbackResult") -> str:
    """Who answered, what the answers hold, and the snapshot that they are kept in."""
    from backflip.evaluation import holding_lines
    from backflip.evaluation.report.words import annotators

    counts = (
        f"{result.new_entries} new answers, {result.skipped} skipped; "
        f"{result.entries} in all from {annotators(result)}. Snapshot: {result.snapshot}"
    )
    return "\n".join([counts, *holding_lines(result.holds or {})])


def reward_lines(result: "RewardResult", scored: "Mapping[str, BenchReport]") -> str:
    """How good the reward models of each axis are on feedback that they never saw.

    Args:
        result: of their training.
        scored: how good they are on files of human judgements.
    """
    from backflip.evaluation import doubt_of_reward

    rows = [
        {"axis": axis, **_accuracy(report), "models": " ".join(result.of(axis))}
        for axis, report in result.reports.items()
    ]
    doubts = [doubt_of_reward(axis, report) for axis, report in result.reports.items()]
    lines = [table(rows), *(f"Doubt: {doubt}." for doubt in doubts if doubt)]
    for file, scores in scored.items():
        told = {"entries": scores.entries, "rows left out": scores.rejected_rows}
        lines.append(f"{file}\n{table([_accuracy(scores) | told])}")
        subsets = scores.subsets
        if subsets:
            lines.append(table([{"subset": name} | _share(part) for name, part in subsets.items()]))
        if scores.reasons:
            lines.append("\n".join(f"  left out: {reason}" for reason in scores.reasons))
    return "\n\n".join(lines)


def _accuracy(report: "RewardFigures") -> dict[str, Any]:
    accuracy, calibrated = report.accuracy, report.calibration
    return {
        **_share(accuracy.overall if accuracy else None),
        "ECE": calibrated.error if calibrated else None,
    }


def _share(part: "KeptShare | None") -> dict[str, Any]:
    return {
        "accuracy": part and part.value,
        "low": part and part.low,
        "high": part and part.high,
        "pairs": part and part.count,
    }


def evaluation_lines(result: "EvaluationResult") -> str:
    """A policy beside the one that it is held against."""
    from backflip.evaluation.verdict import headline, judge_line, proxy_line

    rows = [
        {"measure": name, "before": sides.before, "after": sides.after}
        for name, sides in result.means.items()
    ]
    kl = result.kl
    lines = [table(rows), f"KL {kl.value:.2f} [{kl.low:.2f}, {kl.high:.2f}] nats a sample"]
    lines.append(headline(result))
    lines += [line for line in (judge_line(result), proxy_line(result)) if line]
    return "\n\n".join(lines)
