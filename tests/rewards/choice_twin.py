"""The likelihood of every kind of feedback written out slowly, and entries to try it on."""

import math
from itertools import combinations

import numpy as np
import torch
from linear_reward import sigmoid

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
from backflip.rewards import AnnotatorModel, Choices

SIGNALS = ("kept", "copied", "regenerated", "abandoned")
PEOPLE = ("ann", "bob", "cy")


def random_annotators(seed: int = 0, *, both_bad: bool = True) -> AnnotatorModel:
    """A model with every parameter moved away from where it starts."""
    origins = ("people",) if both_bad else ()
    model = AnnotatorModel(PEOPLE, both_bad_origins=origins, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter += 0.5 * noise
    return model


def one_of_each(people: tuple[str, ...] = PEOPLE) -> list[FeedbackBase]:
    """Several entries of every kind on samples s0 to s7, in mixed order."""
    rng = np.random.default_rng(3)
    pick = lambda size: tuple(f"s{i}" for i in rng.permutation(8)[:size])  # noqa: E731
    who = lambda: {"annotator": people[rng.integers(len(people))]}  # noqa: E731
    entries: list[FeedbackBase] = []
    for choice, strength in (("a", 0), ("b", 2), ("a", 3), ("tie", 0), ("both_bad", 0), ("b", 1)):
        entries.append(Comparison(**who(), samples=pick(2), choice=choice, strength=strength))
    for ranks, line in (
        ((1, 2, 3), None),
        ((2, 1, 2, 4), 3),
        ((1, 1, 1), 1),
        ((3, 3, 1, 2, 9), 0),
        ((2, 1), 2),
        ((5, 4, 4, 2, 1, 6, 7, 8), 1),
    ):
        samples = pick(len(ranks))
        entries.append(Ranking(**who(), samples=samples, ranks=ranks, num_acceptable=line))
    for level, levels in ((1, 5), (3, 5), (5, 5), (2, 2), (4, 7)):
        entries.append(Rating(**who(), sample=pick(1)[0], level=level, num_levels=levels))
        entries.append(
            Critique(**who(), sample=pick(1)[0], text="x", level=level, num_levels=levels)
        )
    for sign in (True, False):
        entries.append(GoodBad(**who(), sample=pick(1)[0], good=sign))
        entries.append(SafetyFlag(**who(), axis="overall", sample=pick(1)[0], safe=sign))
    for size in (2, 3, 5):
        sample, *over = pick(size)
        entries.append(Correction(**who(), sample=sample, corrected=over[0]))
        entries.append(Demonstration(**who(), sample=sample, over=tuple(over)))
    for signal in SIGNALS:
        sample, other = pick(2)
        entries.append(Implicit(**who(), sample=sample, signal=signal))
        entries.append(Implicit(**who(), sample=sample, signal=signal, over=other))
    return [entries[i] for i in rng.permutation(len(entries))]


class Twin:
    """The likelihood of one entry, slowly; parameters are read from the model as numbers."""

    def __init__(self, model: AnnotatorModel, scores: dict[str, float], margin=(0.0,) * 4):
        raw = {n: p.detach().numpy().copy() for n, p in model.named_parameters()}
        mean = raw["log_beta"].mean()
        self.betas = {n: math.exp(raw["log_beta"][i] - mean) for i, n in enumerate(PEOPLE)}
        self.offsets = {n: raw["rating_offset"][i] for i, n in enumerate(PEOPLE)}
        self.raw, self.scores, self.margin = raw, scores, margin

    def nll(self, entry: FeedbackBase) -> float:
        return -math.log(self.probability(entry))

    def probability(self, entry: FeedbackBase) -> float:
        beta = self.betas.get(entry.annotator, 1.0)
        r = self.scores
        match entry:
            case Comparison():
                return self.comparison(entry, beta)
            case Ranking():
                return self.order(entry, beta) * self.line(entry, beta)
            case Rating() | Critique():
                return self.level(entry, beta)
            case GoodBad():
                threshold = self.raw["thresholds.acceptable"]
                return self.sign(beta * (r[entry.sample] - threshold), entry.good)
            case SafetyFlag():
                return self.sign(beta * (r[entry.sample] - self.raw["thresholds.safe"]), entry.safe)
            case Correction():
                return sigmoid(beta * (r[entry.corrected] - r[entry.sample]))
            case Demonstration():
                others = sum(math.exp(beta * (r[i] - r[entry.sample])) for i in entry.over)
                return 1 / (1 + others)
            case Implicit():
                pair = "kept" if entry.signal in ("kept", "regenerated") else "copied"
                signal = self.raw["signal_log_beta"][("kept", "copied").index(pair)]
                other = entry.over
                level = self.raw[f"thresholds.{pair}"] if other is None else r[other]
                weak = beta * math.exp(signal)
                return self.sign(weak * (r[entry.sample] - level), entry.positive)
        raise AssertionError(entry)

    @staticmethod
    def sign(x: float, positive: bool) -> float:
        return sigmoid(x) if positive else sigmoid(-x)

    def comparison(self, entry: Comparison, beta: float) -> float:
        a, b = (self.scores[i] for i in entry.samples)
        bads = [sigmoid(beta * (self.raw["thresholds.acceptable"] - x)) for x in (a, b)]
        if entry.choice == "a":
            a -= self.margin[entry.strength]
        if entry.choice == "b":
            b -= self.margin[entry.strength]
        worths = {
            "a": math.exp(beta * a),
            "b": math.exp(beta * b),
            "none": math.exp(self.raw["log_tie"] + beta * (a + b) / 2),
        }
        none = worths["none"] / sum(worths.values())
        if entry.choice == "both_bad":
            return none * bads[0] * bads[1]
        if entry.choice == "tie":
            return none * (1 - bads[0] * bads[1])
        return worths[entry.choice] / sum(worths.values())

    def order(self, entry: Ranking, beta: float) -> float:
        u = [beta * self.scores[i] for i in entry.samples]

        def worth(group: tuple[int, ...]) -> float:
            mean = sum(u[i] for i in group) / len(group)
            return math.exp(mean + (len(group) - 1) * self.raw["ranking_log_tie"])

        left, probability = list(range(len(u))), 1.0
        while left:
            best = min(entry.ranks[i] for i in left)
            chosen = tuple(i for i in left if entry.ranks[i] == best)
            sets = [c for n in range(1, len(left) + 1) for c in combinations(left, n)]
            probability *= worth(chosen) / sum(map(worth, sets))
            left = [i for i in left if i not in chosen]
        return probability

    def line(self, entry: Ranking, beta: float) -> float:
        probability, above = 1.0, 0
        for rank in sorted(set(entry.ranks)) if entry.num_acceptable is not None else ():
            tied = [
                self.scores[i] for i, r in zip(entry.samples, entry.ranks, strict=True) if r == rank
            ]
            x = beta * (sum(tied) / len(tied) - self.raw["thresholds.acceptable"])
            if above + len(tied) <= entry.num_acceptable:
                probability *= sigmoid(x)
                above += len(tied)
                continue
            return probability * (sigmoid(-x) if above == entry.num_acceptable else 1.0)
        return probability

    def level(self, entry: Rating | Critique, beta: float) -> float:
        scale = "rating" if isinstance(entry, Rating) else "critique"
        raw = self.raw[f"scales.{scale}_{entry.num_levels}"]
        cuts = [-math.inf, raw[0]]
        for gap in raw[1:]:
            cuts.append(cuts[-1] + math.exp(gap))
        cuts.append(math.inf)
        offset = self.offsets.get(entry.annotator, 0.0)
        x = beta * self.scores[entry.sample]

        def below(cut: float) -> float:
            return 1.0 if cut == math.inf else 0.0 if cut == -math.inf else sigmoid(cut - x)

        return below(cuts[entry.level] + offset) - below(cuts[entry.level - 1] + offset)


def nlls(entries, model, scores, **options):
    choices = Choices(entries, **options)
    return choices, choices.nll(
        torch.tensor([scores[i] for i in choices.sample_ids], dtype=torch.float64), model
    )


SCORES = {f"s{i}": x for i, x in enumerate([0.3, -1.2, 0.8, 2.0, -0.4, 0.0, 1.1, -2.2])}
