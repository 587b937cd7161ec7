"""A reward that is linear in what clips observe, in float64: nothing here knows of text.

Also people who answer every kind of feedback with known reliabilities, in numpy alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from backflip.records import Clip, Prompt, Sample, Situation
from backflip.records.feedback import (
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
from backflip.rewards import TrainedReward

WIDTH = 5


@dataclass(frozen=True)
class ClipInputs:
    """observations: (B, T, D) after each action, NaN where padded; lengths: (B,)."""

    observations: Tensor
    lengths: Tensor

    @property
    def num_rows(self) -> int:
        return len(self.lengths)

    @property
    def row_lengths(self) -> Tensor:
        return self.lengths

    def select(self, rows: Tensor) -> "ClipInputs":
        lengths = self.lengths[rows]
        return ClipInputs(self.observations[rows, : int(lengths.max())], lengths)


class LinearReward(TrainedReward):
    """score = weight . mean observation after the actions."""

    def __init__(self, weight: Sequence[float] | np.ndarray | None = None, **fields: Any):
        super().__init__(**fields)
        start = torch.zeros(WIDTH) if weight is None else torch.tensor(np.asarray(weight))
        self.weight = nn.Parameter(start.to(torch.float64))
        self.rows_read: list[int] = []
        self.padded_read: list[int] = []

    def save(self, folder: Path, record: Mapping[str, Any]) -> None:
        folder.mkdir()
        save_file({"weight": self.weight.detach()}, folder / "weight.safetensors")
        (folder / "record.json").write_text(json.dumps({**record, **self.record()}))

    def collate(self, samples: Sequence[Sample]) -> ClipInputs:
        lengths = [s.clip.num_steps for s in samples]
        padded = torch.full((len(samples), max(lengths), WIDTH), torch.nan, dtype=torch.float64)
        for row, sample in enumerate(samples):
            seen = torch.from_numpy(sample.clip.observations[1:])
            padded[row, : lengths[row]] = seen.to(torch.float64)
        return ClipInputs(padded, torch.tensor(lengths))

    def forward(self, inputs: ClipInputs) -> Tensor:
        self.rows_read.append(inputs.num_rows)
        self.padded_read.append(inputs.num_rows * inputs.observations.shape[1])
        steps_T = torch.arange(inputs.observations.shape[1])
        mask_BT = steps_T < inputs.lengths[:, None]
        seen = torch.where(mask_BT[..., None], inputs.observations, 0.0)
        return (seen.sum(1) / inputs.lengths[:, None]) @ self.weight

    def applies_to(self, sample: Sample) -> bool:
        return isinstance(sample.content, Clip)


def features(sample: Sample) -> np.ndarray:
    return sample.clip.observations[1:].astype(np.float64).mean(0)


def make_clips(rng: np.random.Generator, prompts: int, each: int) -> list[Sample]:
    """Clips of 2 to 9 steps whose mean observations are about standard normal."""
    samples = []
    for seed in range(prompts):
        prompt = Prompt(content=Situation(environment="Point-v0", seed=seed))
        for index in range(each):
            steps = int(rng.integers(2, 10))
            center = rng.normal(size=WIDTH)
            seen = (center + 0.1 * rng.normal(size=(steps + 1, WIDTH))).astype(np.float32)
            zeros = np.zeros(steps, np.float32)
            actions = np.zeros((steps, 1), np.float32)
            clip = Clip("Point-v0", seen, actions, zeros, zeros, False, True)
            samples.append(Sample.of(prompt, clip, seed=seed, index=index))
    return samples


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


@dataclass
class Person:
    """Answers with probabilities written out here, none taken from the package."""

    name: str
    beta: float
    rng: np.random.Generator
    log_tie: float = -1.0
    threshold: float = 0.2
    signal_beta: float = 0.3
    cuts: dict[int, list[float]] = field(
        default_factory=lambda: {5: [-2.0, -0.7, 0.7, 2.0], 3: [-1.0, 1.0]}
    )

    def above(self, score: float, beta: float | None = None) -> bool:
        return bool(self.rng.random() < sigmoid((beta or self.beta) * (score - self.threshold)))

    def best(self, scores: Sequence[float], beta: float | None = None) -> int:
        worths = np.exp((beta or self.beta) * np.asarray(scores))
        return int(self.rng.choice(len(worths), p=worths / worths.sum()))

    def level(self, score: float, levels: int) -> int:
        noise = self.rng.logistic()
        return 1 + sum(self.beta * score + noise > cut for cut in self.cuts[levels])

    def verdict(self, scores: Sequence[float]) -> str:
        u = self.beta * np.asarray(scores)
        worths = np.exp([u[0], u[1], self.log_tie + u.mean()])
        choice = ["a", "b", "tie"][self.rng.choice(3, p=worths / worths.sum())]
        bad = [not self.above(score) for score in scores]
        return "both_bad" if choice == "tie" and all(bad) else choice

    def ranks(self, scores: Sequence[float]) -> list[int]:
        """Davidson-Luce: again and again the best set of those that are left."""
        left, ranks, place = list(range(len(scores))), [0] * len(scores), 1
        while left:
            sets = [c for size in range(1, len(left) + 1) for c in combinations(left, size)]
            logs = [
                self.beta * np.mean([scores[i] for i in c]) + (len(c) - 1) * self.log_tie
                for c in sets
            ]
            worths = np.exp(np.array(logs) - max(logs))
            chosen = sets[self.rng.choice(len(sets), p=worths / worths.sum())]
            for i in chosen:
                ranks[i] = place
            left = [i for i in left if i not in chosen]
            place += len(chosen)
        return ranks

    def line(self, scores: Sequence[float], ranks: Sequence[int]) -> int:
        above = 0
        for rank in sorted(set(ranks)):
            tied = [score for score, r in zip(scores, ranks, strict=True) if r == rank]
            if not self.above(float(np.mean(tied))):
                break
            above += len(tied)
        return above

    def answer(self, kind: str, samples: Sequence[Sample], scores: Sequence[float]) -> FeedbackBase:
        """An entry of any kind on four samples of a prompt, the first ones where fewer do."""
        ids = tuple(s.id for s in samples)
        who = {"annotator": self.name}
        if kind == "comparison":
            return Comparison(**who, samples=ids[:2], choice=self.verdict(scores[:2]))
        if kind == "ranking":
            ranks = self.ranks(scores)
            line = self.line(scores, ranks) if self.rng.random() < 0.5 else None
            return Ranking(**who, samples=ids, ranks=tuple(ranks), num_acceptable=line)
        if kind == "rating":
            return Rating(**who, sample=ids[0], level=self.level(scores[0], 5))
        if kind == "critique":
            level = self.level(scores[0], 3)
            return Critique(**who, sample=ids[0], text="hm", level=level, num_levels=3)
        if kind == "good_bad":
            return GoodBad(**who, sample=ids[0], good=self.above(scores[0]))
        if kind == "safety_flag":
            return SafetyFlag(**who, axis="overall", sample=ids[0], safe=self.above(scores[0]))
        if kind == "correction":
            best = self.best(scores[:2])
            return Correction(**who, corrected=ids[best], sample=ids[1 - best])
        if kind == "demonstration":
            best = self.best(scores)
            return Demonstration(**who, sample=ids[best], over=ids[:best] + ids[best + 1 :])
        weak = self.beta * self.signal_beta
        if self.rng.random() < 0.5:
            signal = ("abandoned", "copied")[self.above(scores[0], weak)]
            return Implicit(**who, sample=ids[0], signal=signal)
        signal = ("copied", "abandoned")[self.best(scores[:2], weak)]
        return Implicit(**who, sample=ids[0], signal=signal, over=ids[1])


def ask(
    people: Sequence[Person],
    samples: Sequence[Sample],
    weight: np.ndarray,
    kinds: Sequence[str],
    rng: np.random.Generator,
    count: int,
) -> list[FeedbackBase]:
    """`count` entries of random people and kinds, each on four samples of one prompt."""
    scores = [float(features(s) @ weight) for s in samples]
    entries = []
    for _ in range(count):
        start = 4 * int(rng.integers(len(samples) // 4))
        four = start + rng.permutation(4)
        person = people[rng.integers(len(people))]
        kind = kinds[rng.integers(len(kinds))]
        entries.append(person.answer(kind, [samples[i] for i in four], [scores[i] for i in four]))
    return entries
