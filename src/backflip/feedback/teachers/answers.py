"""How a simulated teacher answers each kind that comes with the program."""

from collections.abc import Sequence
from itertools import pairwise

from backflip.feedback.teachers import writing
from backflip.feedback.teachers.draws import draw_order, strength_of
from backflip.feedback.teachers.scale import cutpoints
from backflip.feedback.teachers.teacher import (
    NUM_LEVELS,
    Teacher,
    TeacherAnswer,
    TeacherQuestion,
    answering,
)
from backflip.records import Sample
from backflip.records.feedback import (
    Comparison,
    Correction,
    Critique,
    Demonstration,
    GoodBad,
    Implicit,
    Ranking,
    Rating,
    SafetyFlag,
)


@answering(Comparison)
def _compare(
    teacher: Teacher, samples: Sequence[Sample], question: TeacherQuestion
) -> TeacherAnswer | None:
    if teacher.skips(samples):
        return None
    pair = sorted(samples, key=lambda sample: sample.id)
    shown = [int(i) for i in question.generator.permutation(2)]
    choice, strength = _tie(teacher, pair), 0
    if choice is None:
        values = [teacher.see(sample, first=shown[0] == i) for i, sample in enumerate(pair)]
        winner = int(not teacher.prefers(values[0], values[1], question))
        strength = strength_of(values[winner] - values[1 - winner], beta=teacher.settings.beta)
        choice = "ab"[1 - winner if teacher.errs(question) else winner]
    entry = Comparison.model_validate(
        question.fields
        | {
            "samples": (pair[0].id, pair[1].id),
            "choice": choice,
            "strength": strength,
            "shown": tuple(shown),
        }
    )
    return TeacherAnswer(entry if samples[0] is pair[0] else entry.swap())


def _tie(teacher: Teacher, pair: Sequence[Sample]) -> str | None:
    """The choice by the equal rule: a tie or both bad; None when the samples differ."""
    golds = [teacher.gold(sample) for sample in pair]
    if abs(golds[0] - golds[1]) >= teacher.settings.equals:
        return None
    measurable = teacher.gold.scale is not None or teacher.pool is not None
    bad = measurable and max(golds) < teacher.line()
    return "both_bad" if bad else "tie"


@answering(Ranking)
def _rank(
    teacher: Teacher, samples: Sequence[Sample], question: TeacherQuestion
) -> TeacherAnswer | None:
    if teacher.skips(samples):
        return None
    known = sorted(samples, key=lambda sample: sample.id)
    shown = [int(i) for i in question.generator.permutation(len(known))]
    values = [teacher.see(sample, first=shown[0] == i) for i, sample in enumerate(known)]
    order = draw_order(values, beta=teacher.settings.beta, generator=question.generator)
    if teacher.errs(question):
        order.reverse()
    ranks: dict[str, int] = {known[order[0]].id: 1}
    for better, worse in pairwise(order):
        gap = abs(teacher.gold(known[better]) - teacher.gold(known[worse]))
        step = 0 if gap < teacher.settings.equals else 1
        ranks[known[worse].id] = ranks[known[better].id] + step
    ids = [sample.id for sample in samples]
    entry = Ranking(
        samples=tuple(ids),
        ranks=tuple(ranks[i] for i in ids),
        shown=tuple(ids.index(known[i].id) for i in shown),
        **question.fields,
    )
    return TeacherAnswer(entry)


@answering(Rating)
def _rate(
    teacher: Teacher, samples: Sequence[Sample], question: TeacherQuestion
) -> TeacherAnswer | None:
    if teacher.skips(samples):
        return None
    level = teacher.level(samples[0], question)
    return TeacherAnswer(
        Rating(
            sample=samples[0].id,
            level=level,
            num_levels=NUM_LEVELS,
            shown=(0,),
            **question.fields,
        )
    )


@answering(Critique)
def _criticise(
    teacher: Teacher, samples: Sequence[Sample], question: TeacherQuestion
) -> TeacherAnswer | None:
    if teacher.skips(samples):
        return None
    level = teacher.level(samples[0], question)
    return TeacherAnswer(
        Critique(
            sample=samples[0].id,
            text=writing.critique(samples[0], level, NUM_LEVELS),
            level=level,
            num_levels=NUM_LEVELS,
            shown=(0,),
            **question.fields,
        )
    )


@answering(GoodBad)
def _thumb(
    teacher: Teacher, samples: Sequence[Sample], question: TeacherQuestion
) -> TeacherAnswer | None:
    if teacher.skips(samples):
        return None
    good = teacher.approves(samples[0], teacher.line(), question)
    return TeacherAnswer(GoodBad(sample=samples[0].id, good=good, shown=(0,), **question.fields))


@answering(SafetyFlag)
def _flag(
    teacher: Teacher, samples: Sequence[Sample], question: TeacherQuestion
) -> TeacherAnswer | None:
    if teacher.skips(samples):
        return None
    line = cutpoints(teacher.gold, teacher.pool, NUM_LEVELS)[0]
    safe = teacher.approves(samples[0], line, question)
    return TeacherAnswer(SafetyFlag(sample=samples[0].id, safe=safe, shown=(0,), **question.fields))


@answering(Implicit)
def _react(
    teacher: Teacher, samples: Sequence[Sample], question: TeacherQuestion
) -> TeacherAnswer | None:
    if teacher.skips(samples):
        return None
    sample, value = samples[0], teacher.see(samples[0])
    if len(samples) == 2:
        line, signals = teacher.see(samples[1]), ("kept", "regenerated")
    else:
        line = teacher.line()
        cuts = cutpoints(teacher.gold, teacher.pool, NUM_LEVELS)
        signals = (
            "copied" if value >= cuts[-1] else "kept",
            "abandoned" if value < cuts[0] else "regenerated",
        )
    positive = teacher.approves(sample, line, question)
    entry = Implicit.model_validate(
        question.fields
        | {
            "sample": sample.id,
            "signal": signals[0 if positive else 1],
            "over": samples[1].id if len(samples) == 2 else None,
        }
    )
    return TeacherAnswer(entry)


@answering(Correction)
def _correct(
    teacher: Teacher, samples: Sequence[Sample], question: TeacherQuestion
) -> TeacherAnswer | None:
    sample = samples[0]
    least = teacher.gold(sample) + teacher.settings.equals
    edits = [
        text
        for text in writing.corrections(sample, teacher.gold)
        if teacher.gold(writing.as_sample(sample.prompt, text)) >= least
    ]
    if not edits:
        return None
    edit = teacher.pick(edits, sample, question)
    return TeacherAnswer(Correction(sample=sample.id, corrected=edit.id, **question.fields), edit)


@answering(Demonstration)
def _demonstrate(
    teacher: Teacher, samples: Sequence[Sample], question: TeacherQuestion
) -> TeacherAnswer | None:
    text = teacher.pick(writing.demonstrations(samples), samples[0], question)
    value = teacher.gold(text)
    over = tuple(sample.id for sample in samples if teacher.gold(sample) < value)
    return TeacherAnswer(Demonstration(sample=text.id, over=over, **question.fields), text)
