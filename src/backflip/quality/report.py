"""All figures of a project's feedback in one JSON document, as its page and the command show them.

Every figure is `{"value", "low", "high", "count"}`, or `{"withheld", "count"}` with the reason why
it is not shown.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from backflip.quality.agreement import agreement_figures
from backflip.quality.annotators import measure_annotators
from backflip.quality.answers import Answers, Unit, Value, read_answers
from backflip.quality.conflicts import contradictions, disagreements
from backflip.quality.drift import measure_drift
from backflip.records import Completion
from backflip.records.feedback import FeedbackBase
from backflip.records.plan import REWARD, round_of
from backflip.statistics.figures import Withheld
from backflip.workspace import TaskBatch, Workspace
from backflip.workspace.labelling.adjudication import ADJUDICATED
from backflip.workspace.labelling.attention_checks import check_fields, right_answer
from backflip.workspace.runs.scores import Score

SEED = 20_260
MAX_CONFLICTS = 200
Said = tuple[TaskBatch, list[FeedbackBase]]
"""A batch and what was said in it."""


def measure_quality(workspace: Workspace, project: str) -> dict[str, Any]:
    """Measure a project's feedback.

    Args:
        workspace: that holds it.
        project: id of the project.

    Raises:
        WorkspaceError: no such project.
    """
    known = workspace.projects.get(project)
    # Before the entries: what comes in the meantime makes the report stale, and not the reverse.
    answered = num_answered(workspace, project)
    batches = workspace.batches.all(project)
    runs: dict[str, list[Said]] = {}
    for batch in batches:
        if batch.purpose != "checks":
            runs.setdefault(batch.run, []).append((batch, _entries(workspace, batch)))
    entries = [entry for rounds in runs.values() for _, said in rounds for entry in said]
    checks = [e for b in batches if b.purpose == "checks" for e in _entries(workspace, b)]
    answers = read_answers(entries)
    everything = [*entries, *checks]
    people = measure_annotators(
        everything,
        read_answers(everything),
        lengths=_lengths(workspace, entries),
        expected=_expected(workspace, project),
        floor=known.settings.min_seconds or 2.0,
    )
    generator = np.random.default_rng(SEED)
    reliabilities = _reliabilities(workspace, runs)
    settled = {unit for unit in map(_settled, entries) if unit is not None}
    return {
        "answered": answered,
        "answers": len(entries),
        "checks": len(checks),
        "annotators": [
            {**_plain(row), "reliability": reliabilities.get(row.annotator)} for row in people
        ],
        "agreement": [_plain(agreement_figures(a, generator)) for a in answers.values()],
        "drift": [row for rounds in runs.values() for row in _drift(rounds, generator)],
        "conflicts": [
            _conflict(row)
            for each in answers.values()
            for row in disagreements(each, limit=MAX_CONFLICTS)
            if (row.unit.axis, row.unit.samples) not in settled
        ],
        "contradictions": [
            row
            for each in answers.values()
            if each.values == "pair"
            for row in _contradicted(each, [workspace.scores.of_run(run) for run in runs])
            if (row["axis"], tuple(row["samples"])) not in settled
        ],
    }


def num_answered(workspace: Workspace, project: str) -> int:
    """Answers in a project, checks included: where it differs, a report is stale."""
    return sum(done for done, _ in workspace.batches.shares(project).values())


def _entries(workspace: Workspace, batch: TaskBatch) -> list[FeedbackBase]:
    return workspace.journal.active(run=batch.run, rounds=batch.round)


def _lengths(workspace: Workspace, entries: Iterable[FeedbackBase]) -> dict[str, float]:
    """Words of every text that was compared."""
    ids = {name for e in entries if e.values == "pair" for name in e.sample_ids}
    return {
        name: float(sample.content.length)
        for name, sample in workspace.samples.get(ids).items()
        if isinstance(sample.content, Completion)
    }


def _expected(workspace: Workspace, project: str) -> dict[Unit, Value]:
    """The right answers of the project's checks."""
    fields = check_fields()
    known: list[FeedbackBase] = [
        right_answer(task) for task in workspace.batches.checks(project) if task.kind in fields
    ]
    return _values(read_answers(known).values())


def _values(tables: Iterable[Answers]) -> dict[Unit, Value]:
    return {
        answers.units[unit]: answers.scale[value]
        for answers in tables
        for unit, value in zip(answers.unit.tolist(), answers.value.tolist(), strict=True)
    }


def _drift(rounds: Sequence[Said], generator: np.random.Generator) -> list[dict[str, Any]]:
    """Drift between the rounds of a run, which go by the names of their batches."""
    rounds = sorted(rounds, key=lambda each: each[0].round)
    names = [batch.name for batch, _ in rounds]
    found = measure_drift([said for _, said in rounds], generator)
    return [
        {**_plain(row), "earlier": names[row.earlier], "later": names[row.later]} for row in found
    ]


def _reliabilities(workspace: Workspace, runs: Iterable[str]) -> dict[str, float]:
    """Beta of each annotator in the newest reward model of the project's runs."""
    found: dict[str, float] = {}
    for run in runs:
        for key, result in workspace.stages.results(run, REWARD).items():
            if round_of(key):  # a model that is trained alone is none of the run's
                for report in result.reports.values():
                    found |= report.reliabilities
    return found


def _settled(entry: FeedbackBase) -> tuple[str, tuple[str, ...]] | None:
    if ADJUDICATED not in entry.tags:
        return None
    return entry.axis, tuple(sorted(entry.sample_ids))


def _conflict(row: Any) -> dict[str, Any]:
    return {
        "kind": row.unit.kind,
        "axis": row.unit.axis,
        "samples": list(row.unit.samples),
        "votes": [list(vote) for vote in row.votes],
        "majority": row.majority,
    }


def _contradicted(
    answers: Answers, scored: Iterable[Mapping[str, Mapping[str, Score]]]
) -> list[dict[str, Any]]:
    """Pairs of which a confident reward model says the opposite of what somebody said.

    Args:
        answers: comparisons on an axis.
        scored: scores of each run, by axis and sample; a later run has the last word on a pair.
    """
    found: dict[Unit, dict[str, Any]] = {}
    for by_axis in scored:
        scores = by_axis.get(answers.axis, {})
        rows = contradictions(answers, {name: score.value for name, score in scores.items()})
        for unit in answers.units:
            if all(name in scores for name in unit.samples):
                found.pop(unit, None)
        for row in rows:
            known = found.setdefault(
                row.unit,
                {
                    "kind": row.unit.kind,
                    "axis": row.unit.axis,
                    "samples": list(row.unit.samples),
                    "votes": [],
                    "probability": row.probability,
                    "heldout": all(scores[name].heldout for name in row.unit.samples),
                },
            )
            known["votes"].append([row.annotator, row.value])
    return list(found.values())[:MAX_CONFLICTS]


def _plain(value: Any) -> Any:
    """Dataclasses as JSON; what is withheld says why."""
    if isinstance(value, Withheld):
        return {"withheld": value.reason, "count": value.count}
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value
