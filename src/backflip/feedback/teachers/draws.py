"""Noisily rational choices, drawn: the generating side of the likelihoods in the losses.

Each function takes values in the gold measure's unit and the annotator's rationality `beta`, an
inverse temperature: 0 chooses at random, infinity always chooses the best (ties at random).
"""

import math
from collections.abc import Sequence

from numpy.random import Generator


def preference_probability(value: float, other: float, *, beta: float) -> float:
    """Probability of choosing `value` over `other`: Bradley-Terry, B-Pref (Lee et al. 2021) eq. 4.

    P = exp(beta value) / (exp(beta value) + exp(beta other)), without overflow.
    """
    if value == other:
        return 0.5
    logit = beta * (value - other)
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    return math.exp(logit) / (1 + math.exp(logit))


def draw_order(values: Sequence[float], *, beta: float, generator: Generator) -> list[int]:
    """Indices from best to worst, drawn from Plackett-Luce with log-worths `beta * values`.

    Sorting log-worths plus Gumbel noise draws from that model (Yellott 1977).
    """
    noise = generator.gumbel(size=len(values))
    if math.isinf(beta):
        return sorted(range(len(values)), key=lambda i: (values[i], noise[i]), reverse=True)
    return sorted(range(len(values)), key=lambda i: beta * values[i] + noise[i], reverse=True)


def draw_choice(values: Sequence[float], *, beta: float, generator: Generator) -> int:
    """Index of one option, drawn with probability softmax(beta * values)."""
    return draw_order(values, beta=beta, generator=generator)[0]


def draw_level(
    value: float, cutpoints: Sequence[float], *, beta: float, generator: Generator
) -> int:
    """A level from 1 to len(cutpoints) + 1, drawn from the cumulative link model.

    P(level <= l) = 1 / (1 + exp(-beta (cutpoints[l-1] - value))): a logistic error on the value.
    """
    uniform = generator.random()
    for level, cutpoint in enumerate(cutpoints, start=1):
        if uniform < preference_probability(cutpoint, value, beta=beta):
            return level
    return len(cutpoints) + 1


def strength_of(margin: float, *, beta: float) -> int:
    """Strength 1 to 3 of a choice from its margin, by the odds the annotator would give on it.

    1 below odds of 3 to 1, 2 below 19 to 1, else 3. A choice against what the annotator sees
    (a margin below 0) is a slight one.
    """
    probability = preference_probability(margin, 0.0, beta=beta)
    if probability < 3 / 4:
        return 1
    return 2 if probability < 19 / 20 else 3
