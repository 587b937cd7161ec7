"""A simulated annotator: judges by a gold measure, with the faults of people.

The faults of B-Pref (Lee et al. 2021, "B-Pref: Benchmarking Preference-Based Reinforcement
Learning"), in its order. With golds g_0 and g_1 of two samples:

    skip      both golds lie in the low share `skips` of the samples at hand: no answer
    equal     |g_0 - g_1| < equals: a tie; "both bad" when both are under the acceptable line
    noisy     P(0 over 1) = exp(beta v_0) / (exp(beta v_0) + exp(beta v_1))
    mistake   a choice made is turned round with probability `mistakes`; a tie is not

B-Pref puts the skip threshold at a share of the agent's recent return; here it is the share of
the pool itself, because gold measures may be negative. Its myopic rule weighs the steps of a
clip and has no meaning for text; it is left out. Two biases are added, in what the teacher sees:

    v = g + position_bias (the sample shown first) + length_bias * words / 100

Skip and equal read the gold, the noisy choice reads v. The other kinds draw from the likelihoods
that the reward model is fitted with, so that a crowd's answers test the whole chain:

    ranking        Plackett-Luce over v; neighbours in the order closer than `equals` are tied;
                   a mistake turns the order round
    rating         cumulative link over v; a mistake mirrors the level
    critique       the same level, and words that give its grounds
    good_bad       P(good) = 1 / (1 + exp(-beta (v - line))), line the middle of the scale
    safety_flag    as good_bad with the line at the lowest fifth of the scale: the gold measure
                   then stands for harm
    implicit       as good_bad, or as a comparison with another sample; signals differ by level
    correction     an edit of higher gold, of several with probability softmax(beta gold)
    demonstration  a new text, of several with probability softmax(beta gold)

Mistakes and skips concern judging; what a teacher writes, it means.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.random import Generator

from backflip.config import TeacherSettings
from backflip.errors import SettingsError
from backflip.feedback.gold import Gold, count_words
from backflip.feedback.teachers import writing
from backflip.feedback.teachers.draws import (
    draw_choice,
    draw_level,
    draw_order,
    preference_probability,
    strength_of,
)
from backflip.feedback.teachers.scale import GoldPool, cutpoints
from backflip.records import Completion, Sample, content_id
from backflip.records.feedback import (
    KINDS,
    WRITTEN_KINDS,
    Comparison,
    Correction,
    Critique,
    Demonstration,
    FeedbackBase,
    GoodBad,
    Implicit,
    Ranking,
    Rating,
    SafetyFlag,
)

NUM_LEVELS = 5
SYMMETRIC = ("comparison", "ranking")
NUM_SAMPLES: dict[str, tuple[int, int]] = {
    "comparison": (2, 2),
    "ranking": (2, 8),
    "implicit": (1, 2),
    "demonstration": (1, 7),
}


class TeacherAnswer(NamedTuple):
    """What a teacher said, and the sample it wrote to say it (a correction, a demonstration)."""

    entry: FeedbackBase
    written: Sample | None = None


@dataclass(frozen=True)
class Question:
    """What is asked, and the noise that goes into the answer.

    Attributes:
        fields: annotator, origin and axis of the entry to make.
        generator: seeded by teacher, kind, axis and sample ids, and used for nothing else.
    """

    fields: dict[str, Any]
    generator: Generator


@dataclass(frozen=True)
class Teacher:
    """One simulated annotator.

    The same (seed, name, kind, axis, sample ids) gives the same answer, whatever was asked
    before; comparisons and rankings do not depend on the order the samples are given in either.

    Attributes:
        settings: its faults.
        name: who it is; two names of one seed err independently.
        seed: of the whole crowd.
        gold: what it judges by.
        pool: the samples at hand, for the skip rule and for measures without a scale.
    """

    settings: TeacherSettings
    name: str
    seed: int
    gold: Gold
    pool: GoldPool | None = None

    def among(self, samples: Sequence[Sample] | GoldPool) -> Self:
        """The same teacher, with these samples at hand."""
        pool = samples if isinstance(samples, GoldPool) else GoldPool.of(self.gold, samples)
        return replace(self, pool=pool)

    def answer(
        self, kind: str, samples: Sequence[Sample], *, axis: str | None = None
    ) -> TeacherAnswer | None:
        """Answer a question of this kind about these samples of one prompt.

        Args:
            kind: one of `KINDS`.
            samples: two for a comparison, 2 to 8 for a ranking, one or two for an implicit
                sign (the first against the second), 1 to 7 to demonstrate over, else one.
            axis: axis of the entry; the kind's own when None.

        Returns:
            The entry and any text written for it; None when the teacher skips, or finds nothing
            to mend in a correction.

        Raises:
            SettingsError: an unknown kind, a wrong number of samples, samples of several
                prompts, a text asked of a clip, or no pool where one is needed.
        """
        self._check(kind, samples)
        ids = [sample.id for sample in samples]
        axis = axis if axis is not None else KINDS[kind].model_fields["axis"].default
        key = content_id(
            "teacher", self.seed, self.name, kind, axis, sorted(ids) if kind in SYMMETRIC else ids
        )
        question = Question(
            {"annotator": self.name, "origin": "teachers", "axis": axis},
            np.random.default_rng(int(key.rpartition("-")[2], 16)),
        )
        return _ANSWERS[kind](self, samples, question)

    def _check(self, kind: str, samples: Sequence[Sample]) -> None:
        if kind not in KINDS:
            raise SettingsError(f"unknown kind {kind!r}", hint=f"Kinds: {', '.join(KINDS)}.")
        low, high = NUM_SAMPLES.get(kind, (1, 1))
        if not low <= len(samples) <= high:
            wanted = f"{low}" if low == high else f"{low} to {high}"
            raise SettingsError(f"{kind} needs {wanted} samples, not {len(samples)}")
        if len({sample.prompt_id for sample in samples}) > 1:
            raise SettingsError(f"{kind} asks about samples of several prompts")
        if kind in WRITTEN_KINDS:
            for sample in samples:
                if not isinstance(sample.content, Completion):
                    raise SettingsError(
                        f"a simulated teacher cannot write a {sample.content.type}",
                        where=sample.id,
                        hint=f"Leave {kind} out of the kinds of feedback for an environment.",
                    )

    def _see(self, sample: Sample, *, first: bool = False) -> float:
        """The value the teacher sees in a sample: its gold and the teacher's biases."""
        value = self.gold(sample)
        if first:
            value += self.settings.position_bias
        if self.settings.length_bias and isinstance(sample.content, Completion):
            value += self.settings.length_bias * count_words(sample.text) / 100
        return value

    def _skips(self, samples: Sequence[Sample]) -> bool:
        if not self.settings.skips:
            return False
        if self.pool is None:
            raise SettingsError(
                f"teacher {self.name} skips the low share of the samples, but was given none",
                hint="Give it the samples at hand: teacher.among(samples).",
            )
        best = max(self.gold(sample) for sample in samples)
        return self.pool.share_below(best) < self.settings.skips

    def _errs(self, question: Question) -> bool:
        return question.generator.random() < self.settings.mistakes

    def _compare(self, samples: Sequence[Sample], question: Question) -> TeacherAnswer | None:
        if self._skips(samples):
            return None
        pair = sorted(samples, key=lambda sample: sample.id)
        shown = [int(i) for i in question.generator.permutation(2)]
        choice, strength = self._tie(pair), 0
        if choice is None:
            values = [self._see(sample, first=shown[0] == i) for i, sample in enumerate(pair)]
            winner = int(not self._prefers(values[0], values[1], question))
            strength = strength_of(values[winner] - values[1 - winner], beta=self.settings.beta)
            choice = "ab"[1 - winner if self._errs(question) else winner]
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

    def _tie(self, pair: Sequence[Sample]) -> str | None:
        """The choice by the equal rule: a tie or both bad; None when the samples differ."""
        golds = [self.gold(sample) for sample in pair]
        if abs(golds[0] - golds[1]) >= self.settings.equals:
            return None
        measurable = self.gold.scale is not None or self.pool is not None
        bad = measurable and max(golds) < self._line()
        return "both_bad" if bad else "tie"

    def _prefers(self, value: float, other: float, question: Question) -> bool:
        probability = preference_probability(value, other, beta=self.settings.beta)
        return question.generator.random() < probability

    def _line(self) -> float:
        """The gold value above which a sample is acceptable: the middle of the scale."""
        return cutpoints(self.gold, self.pool, 2)[0]

    def _rank(self, samples: Sequence[Sample], question: Question) -> TeacherAnswer | None:
        if self._skips(samples):
            return None
        known = sorted(samples, key=lambda sample: sample.id)
        shown = [int(i) for i in question.generator.permutation(len(known))]
        values = [self._see(sample, first=shown[0] == i) for i, sample in enumerate(known)]
        order = draw_order(values, beta=self.settings.beta, generator=question.generator)
        if self._errs(question):
            order.reverse()
        ranks: dict[str, int] = {known[order[0]].id: 1}
        for better, worse in pairwise(order):
            gap = abs(self.gold(known[better]) - self.gold(known[worse]))
            step = 0 if gap < self.settings.equals else 1
            ranks[known[worse].id] = ranks[known[better].id] + step
        ids = [sample.id for sample in samples]
        entry = Ranking(
            samples=tuple(ids),
            ranks=tuple(ranks[i] for i in ids),
            shown=tuple(ids.index(known[i].id) for i in shown),
            **question.fields,
        )
        return TeacherAnswer(entry)

    def _level(self, sample: Sample, question: Question) -> int:
        level = draw_level(
            self._see(sample),
            cutpoints(self.gold, self.pool, NUM_LEVELS),
            beta=self.settings.beta,
            generator=question.generator,
        )
        return NUM_LEVELS + 1 - level if self._errs(question) else level

    def _rate(self, samples: Sequence[Sample], question: Question) -> TeacherAnswer | None:
        if self._skips(samples):
            return None
        level = self._level(samples[0], question)
        return TeacherAnswer(
            Rating(
                sample=samples[0].id,
                level=level,
                num_levels=NUM_LEVELS,
                shown=(0,),
                **question.fields,
            )
        )

    def _criticise(self, samples: Sequence[Sample], question: Question) -> TeacherAnswer | None:
        if self._skips(samples):
            return None
        level = self._level(samples[0], question)
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

    def _approves(self, sample: Sample, line: float, question: Question) -> bool:
        return self._prefers(self._see(sample), line, question) != self._errs(question)

    def _thumb(self, samples: Sequence[Sample], question: Question) -> TeacherAnswer | None:
        if self._skips(samples):
            return None
        good = self._approves(samples[0], self._line(), question)
        return TeacherAnswer(
            GoodBad(sample=samples[0].id, good=good, shown=(0,), **question.fields)
        )

    def _flag(self, samples: Sequence[Sample], question: Question) -> TeacherAnswer | None:
        if self._skips(samples):
            return None
        line = cutpoints(self.gold, self.pool, NUM_LEVELS)[0]
        safe = self._approves(samples[0], line, question)
        return TeacherAnswer(
            SafetyFlag(sample=samples[0].id, safe=safe, shown=(0,), **question.fields)
        )

    def _react(self, samples: Sequence[Sample], question: Question) -> TeacherAnswer | None:
        if self._skips(samples):
            return None
        sample, value = samples[0], self._see(samples[0])
        if len(samples) == 2:
            line, signals = self._see(samples[1]), ("kept", "regenerated")
        else:
            line = self._line()
            cuts = cutpoints(self.gold, self.pool, NUM_LEVELS)
            signals = (
                "copied" if value >= cuts[-1] else "kept",
                "abandoned" if value < cuts[0] else "regenerated",
            )
        positive = self._approves(sample, line, question)
        entry = Implicit.model_validate(
            question.fields
            | {
                "sample": sample.id,
                "signal": signals[0 if positive else 1],
                "over": samples[1].id if len(samples) == 2 else None,
            }
        )
        return TeacherAnswer(entry)

    def _pick(self, texts: Sequence[str], sample: Sample, question: Question) -> Sample:
        """One of these texts as a person's sample, drawn with probability softmax(beta gold)."""
        options = [writing.as_sample(sample.prompt, text) for text in texts]
        values = [self.gold(option) for option in options]
        chosen = draw_choice(values, beta=self.settings.beta, generator=question.generator)
        return options[chosen]

    def _correct(self, samples: Sequence[Sample], question: Question) -> TeacherAnswer | None:
        sample = samples[0]
        least = self.gold(sample) + self.settings.equals
        edits = [
            text
            for text in writing.corrections(sample, self.gold)
            if self.gold(writing.as_sample(sample.prompt, text)) >= least
        ]
        if not edits:
            return None
        edit = self._pick(edits, sample, question)
        return TeacherAnswer(
            Correction(sample=sample.id, corrected=edit.id, **question.fields), edit
        )

    def _demonstrate(self, samples: Sequence[Sample], question: Question) -> TeacherAnswer | None:
        text = self._pick(writing.demonstrations(samples), samples[0], question)
        value = self.gold(text)
        over = tuple(sample.id for sample in samples if self.gold(sample) < value)
        return TeacherAnswer(Demonstration(sample=text.id, over=over, **question.fields), text)


_Answerer = Callable[[Teacher, Sequence[Sample], Question], TeacherAnswer | None]
_ANSWERS: dict[str, _Answerer] = {
    "comparison": Teacher._compare,
    "ranking": Teacher._rank,
    "rating": Teacher._rate,
    "good_bad": Teacher._thumb,
    "correction": Teacher._correct,
    "demonstration": Teacher._demonstrate,
    "critique": Teacher._criticise,
    "safety_flag": Teacher._flag,
    "implicit": Teacher._react,
}
