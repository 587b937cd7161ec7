"""Questions whose answer is known: what such an answer may say, and where people agreed on one."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.engine import Connection

from backflip.errors import WorkspaceError
from backflip.records.feedback import KINDS, FeedbackBase, parse_feedback
from backflip.workspace.database import schema
from backflip.workspace.database.engine import Database, chunks
from backflip.workspace.labelling.tasks import Task

_places, _tasks, _batches = schema.assignments, schema.tasks, schema.batches
_journal = schema.journal
_undoing = schema.journal.alias("undoing")


def check_fields() -> dict[str, str]:
    """Kinds that may be checks, and the one field of each that tells whether an answer is right."""
    return {name: kind.checked_by for name, kind in KINDS.items() if kind.checked_by is not None}


@dataclass(frozen=True)
class Agreed:
    """Which answered questions may become checks.

    Attributes:
        kind, axis: of the questions.
        min_answers: people who answered each.
        share: of their answers that must be the same.
    """

    kind: str
    axis: str
    min_answers: int
    share: float


def right_answer(task: Task, annotator: str = "expected") -> FeedbackBase:
    """The right answer of a check, as the entry of somebody who gave it.

    Raises:
        WorkspaceError: the kind cannot be a check, or `task.expected` is no answer to it.
    """
    field = check_fields().get(task.kind)
    if field is None:
        raise WorkspaceError(
            f"a {task.kind} cannot be a check: its answer is neither right nor wrong",
            hint=f"Kinds of checks: {', '.join(check_fields())}",
        )
    expected = task.expected or {}
    if set(expected) != {field}:
        raise WorkspaceError(
            f"the right answer of a {task.kind} says {field!r} alone, not {sorted(expected)}"
        )
    kind = KINDS[task.kind]
    if kind.question.samples[1] == 1 and len(task.sample_ids) > 1:
        raise WorkspaceError(f"a {task.kind} is about one sample, not {len(task.sample_ids)}")
    said = {field: expected[field], "annotator": annotator, "axis": task.axis}
    try:
        # As JSON, so that a list is a tuple and yet no text a number.
        values = json.dumps(kind.about(task.sample_ids) | said)
        return kind.model_validate_json(values, strict=True)
    except ValidationError as error:
        fault = error.errors()[0]
        raise WorkspaceError(
            f"{expected} is no answer to a {task.kind} of {len(task.sample_ids)}: {fault['msg']}"
        ) from None


def agreed_questions(database: Database, project: str, wanted: Agreed, number: int) -> list[Task]:
    """Answered questions of a project with the answer that people agreed on as the right one.

    Those with the most answers come first. What is a check of the project already is left out,
    and answers that were taken back do not count.

    Args:
        database: of the workspace.
        project: id of the project.
        wanted: which questions.
        number: at most so many.

    Raises:
        WorkspaceError: the kind cannot be a check.
    """
    if wanted.kind not in check_fields():
        right_answer(Task(kind=wanted.kind, sample_ids=("none",)))
    found: list[Task] = []
    with database.read() as connection:
        known = _known_checks(connection, project, wanted)
        for chunk in chunks(_answered(connection, project, wanted), 500):
            said = _answers(connection, [name for name, _ in chunk])
            for name, sample_ids in chunk:
                expected = _majority(wanted, sample_ids, said.get(name, []))
                if expected is None or frozenset(sample_ids) in known:
                    continue
                found.append(
                    Task(
                        kind=wanted.kind,
                        axis=wanted.axis,
                        sample_ids=sample_ids,
                        expected=expected,
                    )
                )
                known.add(frozenset(sample_ids))
                if len(found) == number:
                    return found
    return found


def _of_kind(project: str, wanted: Agreed, purpose: str) -> list[Any]:
    return [
        _batches.c.project == project,
        _batches.c.purpose == purpose,
        _tasks.c.kind == wanted.kind,
        _tasks.c.axis == wanted.axis,
    ]


def _known_checks(connection: Connection, project: str, wanted: Agreed) -> set[frozenset[str]]:
    query = sa.select(_tasks.c.sample_ids).join(_batches, _batches.c.number == _tasks.c.batch)
    query = query.where(*_of_kind(project, wanted, "checks"))
    return {frozenset(ids) for ids in connection.execute(query).scalars()}


def _answered(
    connection: Connection, project: str, wanted: Agreed
) -> list[tuple[str, tuple[str, ...]]]:
    """Id and samples of the questions with answers enough, those with the most first."""
    number = sa.func.count()
    query = (
        sa.select(_tasks.c.id, _tasks.c.sample_ids)
        .join(_batches, _batches.c.number == _tasks.c.batch)
        .join(_places, _places.c.task_id == _tasks.c.id)
        .where(*_of_kind(project, wanted, "labels"), _places.c.state == "done")
        .group_by(_tasks.c.number, _tasks.c.id, _tasks.c.sample_ids)
        .having(number >= wanted.min_answers)
        .order_by(number.desc(), _tasks.c.number)
    )
    return [(name, tuple(ids)) for name, ids in connection.execute(query)]


def _answers(connection: Connection, tasks: list[str]) -> dict[str, list[FeedbackBase]]:
    stands = ~sa.exists().where(_undoing.c.retracts == _journal.c.id).correlate(_journal)
    query = (
        sa.select(_places.c.task_id, _journal.c.body)
        .join(_journal, _journal.c.id == _places.c.entry_id)
        .where(_places.c.task_id.in_(tasks), stands)
        .order_by(_places.c.number)
    )
    found: dict[str, list[FeedbackBase]] = {}
    for name, body in connection.execute(query):
        found.setdefault(name, []).append(parse_feedback(body))
    return found


def _majority(
    wanted: Agreed, sample_ids: tuple[str, ...], entries: list[FeedbackBase]
) -> dict[str, Any] | None:
    """The answer that people agreed on; None where they did not, or too few answers are left."""
    if len(entries) < wanted.min_answers:
        return None
    field = check_fields()[wanted.kind]
    # With the samples in the order of the question.
    counted = Counter(getattr(entry.in_order_of(sample_ids), field) for entry in entries)
    (said, votes), *others = counted.most_common(2)
    level = bool(others) and others[0][1] == votes
    if level or votes < wanted.share * len(entries):
        return None
    return {field: said}
