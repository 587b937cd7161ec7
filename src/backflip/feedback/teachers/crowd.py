"""A crowd of simulated annotators: who they are, who is asked what, and their answers."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from backflip.config import TeacherSettings
from backflip.errors import SettingsError
from backflip.feedback.gold import Gold, find_gold
from backflip.feedback.teachers.scale import GoldPool
from backflip.feedback.teachers.teacher import Teacher, TeacherAnswer
from backflip.records import Completion, Sample
from backflip.records.feedback import KINDS, FeedbackBase


@dataclass(frozen=True)
class Item:
    """One question: a kind of feedback on samples of one prompt, and the axis to judge by.

    `axis` None stands for the kind's own; `make_items` always names it.
    """

    kind: str
    samples: tuple[Sample, ...]
    axis: str | None = None


@dataclass(frozen=True)
class CrowdAnswers:
    """What a crowd said.

    Attributes:
        answers: item by item, in the order of the teachers asked about it.
        num_skipped: questions that a teacher left unanswered.
    """

    answers: tuple[TeacherAnswer, ...]
    num_skipped: int

    @property
    def entries(self) -> list[FeedbackBase]:
        """The feedback entries."""
        return [answer.entry for answer in self.answers]

    @property
    def written(self) -> list[Sample]:
        """Samples that teachers wrote; they must be in the store before the entries are."""
        found = {a.written.id: a.written for a in self.answers if a.written is not None}
        return list(found.values())


def make_crowd(
    settings: Sequence[TeacherSettings], gold: str | Gold, *, seed: int
) -> list[Teacher]:
    """The annotators of these groups, named `GROUP-1`, `GROUP-2`, ...

    Raises:
        SettingsError: two groups of one name, or an unknown gold measure.
    """
    names = [group.name for group in settings]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(
                f"two groups of teachers are called {name!r}",
                hint="Give each group a name of its own.",
            )
    measure = find_gold(gold) if isinstance(gold, str) else gold
    return [
        Teacher(group, f"{group.name}-{i}", seed, measure)
        for group in settings
        for i in range(1, group.count + 1)
    ]


def make_items(
    samples: Sequence[Sample], kinds: Sequence[str], axes: Sequence[str] = ("overall",)
) -> list[Item]:
    """The questions to ask about these samples, prompt by prompt.

    Of the K samples of a prompt, neighbours are compared in disjoint pairs (an odd one out meets
    the first), all are ranked together and demonstrated over, and each is judged alone by the
    other kinds, as the question of each kind says. Replies of the same text are put up once: they
    differ in nothing a person sees.

    Each question is asked on each of the axes, each time as a question of its own. A kind with an
    axis of its own, as a safety flag has, is asked on that alone; and where it is among the kinds,
    the others are asked on the other axes, since that one has its answers.
    """
    return [
        Item(kind, chosen, axis)
        for group in distinct_by_prompt(samples).values()
        for kind in kinds
        for chosen in _choose(kind, group)
        for axis in _asked_on(kind, kinds, axes)
    ]


def distinct_by_prompt(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """The samples of each prompt by its id, of those that look the same the first alone."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        group = groups.setdefault(sample.prompt_id, [])
        if not any(_looks_like(sample, other) for other in group):
            group.append(sample)
    return groups


def _asked_on(kind: str, kinds: Sequence[str], axes: Sequence[str]) -> list[str]:
    """The axes on which a kind is asked, among kinds that may have axes of their own."""
    if (own := KINDS[kind].own_axis()) is not None:
        return [own]
    taken = {KINDS[name].own_axis() for name in kinds}
    return [axis for axis in axes if axis not in taken] or list(axes)


def _looks_like(sample: Sample, other: Sample) -> bool:
    if isinstance(sample.content, Completion) and isinstance(other.content, Completion):
        return sample.text == other.text
    return sample.id == other.id


def _choose(kind: str, group: Sequence[Sample]) -> list[tuple[Sample, ...]]:
    question = KINDS[kind].question
    least, most = question.samples
    if question.takes == "pairs":
        pairs = list(pairwise(group))[::2]
        if len(group) > 1 and len(group) % 2:
            pairs.append((group[-1], group[0]))
        return [*pairs]
    if question.takes == "all":
        return [tuple(group[:most])] if len(group) >= least else []
    return [(sample,) for sample in group]


def assign(
    crowd: Sequence[Teacher], items: Sequence[Item], *, overlap: int, seed: int
) -> list[tuple[Teacher, ...]]:
    """Choose `overlap` different teachers for each item, by lot among the least busy.

    No teacher gets more than one item more than another.

    Raises:
        SettingsError: more overlap than teachers.
    """
    if overlap > len(crowd):
        raise SettingsError(
            f"overlap {overlap} asks for more annotators than the {len(crowd)} teachers there are",
            hint="Lower feedback.overlap, or raise the count of a group of teachers.",
        )
    digest = hashlib.blake2b(f"assign {seed}".encode(), digest_size=16).digest()
    generator = np.random.default_rng(int.from_bytes(digest, "big"))
    load = np.zeros(len(crowd), dtype=np.int64)
    chosen: list[tuple[Teacher, ...]] = []
    for _ in items:
        lot = generator.permutation(len(crowd))
        least = lot[np.argsort(load[lot], kind="stable")][:overlap]
        load[least] += 1
        chosen.append(tuple(crowd[int(i)] for i in least))
    return chosen


def ask_crowd(
    crowd: Sequence[Teacher],
    items: Sequence[Item],
    *,
    overlap: int = 1,
    seed: int,
    advance: Callable[[int], None] | None = None,
) -> CrowdAnswers:
    """Put every item to `overlap` teachers.

    The samples of all items are the pool that the skip rule and scale-less measures go by.

    Args:
        crowd: from `make_crowd`.
        items: from `make_items`.
        overlap: teachers asked about each item.
        seed: of the assignment; a teacher's noise has the crowd's own.
        advance: called with 1 after each item, for a progress bar.
    """
    assigned = assign(crowd, items, overlap=overlap, seed=seed)
    samples = [sample for item in items for sample in item.samples]
    pools: dict[int, GoldPool] = {}
    for teacher in crowd:
        if id(teacher.gold) not in pools:
            pools[id(teacher.gold)] = GoldPool.of(teacher.gold, samples)
    answers: list[TeacherAnswer] = []
    num_skipped = 0
    for item, teachers in zip(items, assigned, strict=True):
        for teacher in teachers:
            asked = teacher.among(pools[id(teacher.gold)])
            answer = asked.answer(item.kind, item.samples, axis=item.axis)
            if answer is None:
                num_skipped += 1
            else:
                answers.append(answer)
        if advance is not None:
            advance(1)
    return CrowdAnswers(tuple(answers), num_skipped)
