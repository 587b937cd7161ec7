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
    preference_probability,
)
from backflip.feedback.teachers.scale import GoldPool, cutpoints
from backflip.records import Completion, Sample, content_id
from backflip.records.feedback import GENERAL_AXIS, KINDS, WRITTEN_KINDS, FeedbackBase

NUM_LEVELS = 5
Answerer = Callable[["Teacher", Sequence[Sample], "TeacherQuestion"], "TeacherAnswer | None"]
ANSWERS: dict[str, Answerer] = {}
"""By kind, how a teacher answers it; filled by `answering`."""


def answering(kind: type[FeedbackBase]) -> Callable[[Answerer], Answerer]:
    """Register what is decorated as the way in which teachers answer a kind.

    It takes the teacher, the samples in the order given and the question, and returns the answer;
    None where the teacher skips. Whatever is random in it comes from the question's generator.
    """

    def register(function: Answerer) -> Answerer:
        ANSWERS[kind.kind_name()] = function
        return function

    return register


class TeacherAnswer(NamedTuple):
    """What a teacher said, and the sample it wrote to say it (a correction, a demonstration)."""

    entry: FeedbackBase
    written: Sample | None = None


@dataclass(frozen=True)
class TeacherQuestion:
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
            SettingsError: an unknown kind, one that teachers cannot answer, a wrong number of
                samples, samples of several prompts, a text asked of a clip, or no pool where one
                is needed.
        """
        self._check(kind, samples)
        ids = [sample.id for sample in samples]
        axis = axis if axis is not None else KINDS[kind].own_axis() or GENERAL_AXIS
        named = sorted(ids) if KINDS[kind].symmetric else ids
        key = content_id("teacher", self.seed, self.name, kind, axis, named)
        question = TeacherQuestion(
            {"annotator": self.name, "origin": "teachers", "axis": axis},
            np.random.default_rng(int(key.rpartition("-")[2], 16)),
        )
        return ANSWERS[kind](self, samples, question)

    def _check(self, kind: str, samples: Sequence[Sample]) -> None:
        if kind not in KINDS:
            raise SettingsError(f"unknown kind {kind!r}", hint=f"Kinds: {', '.join(KINDS)}.")
        if kind not in ANSWERS:
            raise SettingsError(
                f"simulated teachers do not answer the kind {kind!r}",
                hint="Register one in its module: `backflip.feedback.teachers.answering`.",
            )
        low, high = KINDS[kind].question.samples
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

    def see(self, sample: Sample, *, first: bool = False) -> float:
        """The value the teacher sees in a sample: its gold and the teacher's biases."""
        value = self.gold(sample)
        if first:
            value += self.settings.position_bias
        if self.settings.length_bias and isinstance(sample.content, Completion):
            value += self.settings.length_bias * count_words(sample.text) / 100
        return value

    def skips(self, samples: Sequence[Sample]) -> bool:
        """Whether all of these samples are so poor that the teacher gives no answer."""
        if not self.settings.skips:
            return False
        if self.pool is None:
            raise SettingsError(
                f"teacher {self.name} skips the low share of the samples, but was given none",
                hint="Give it the samples at hand: teacher.among(samples).",
            )
        best = max(self.gold(sample) for sample in samples)
        return self.pool.share_below(best) < self.settings.skips

    def errs(self, question: TeacherQuestion) -> bool:
        """Whether the teacher turns this answer round by mistake; draws at random."""
        return question.generator.random() < self.settings.mistakes

    def prefers(self, value: float, other: float, question: TeacherQuestion) -> bool:
        """Whether the first of two values, as seen, is chosen over the other; draws at random."""
        probability = preference_probability(value, other, beta=self.settings.beta)
        return question.generator.random() < probability

    def line(self) -> float:
        """The gold value above which a sample is acceptable: the middle of the scale."""
        return cutpoints(self.gold, self.pool, 2)[0]

    def level(self, sample: Sample, question: TeacherQuestion) -> int:
        """A level for a sample from 1 to `NUM_LEVELS`, mistakes and all; draws at random."""
        level = draw_level(
            self.see(sample),
            cutpoints(self.gold, self.pool, NUM_LEVELS),
            beta=self.settings.beta,
            generator=question.generator,
        )
        return NUM_LEVELS + 1 - level if self.errs(question) else level

    def approves(self, sample: Sample, line: float, question: TeacherQuestion) -> bool:
        """Whether a sample is called better than a line, mistakes and all; draws at random."""
        return self.prefers(self.see(sample), line, question) != self.errs(question)

    def pick(self, texts: Sequence[str], sample: Sample, question: TeacherQuestion) -> Sample:
        """One of these texts as a person's sample, drawn with probability softmax(beta gold)."""
        options = [writing.as_sample(sample.prompt, text) for text in texts]
        values = [self.gold(option) for option in options]
        chosen = draw_choice(values, beta=self.settings.beta, generator=question.generator)
        return options[chosen]
