"""Whether the learner reads the policy that the samples were drawn from.

Both compute the log-probability of every action, the sampler when it drew it and the learner when
it is about to learn from it, with the same weights. Where the two differ by more than rounding,
what follows is no policy gradient: ratios, KL and credit are those of another policy.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from backflip.errors import TrainingError
from backflip.records import Sample

Shaken = Callable[[int], Tensor]
"""(B, T) log-probabilities of the learner, by a seed, as they might come out otherwise rounded."""
Spell = Callable[[Sample, int], str]
"""What the action of a sample at a place looks like to a reader."""


class Tolerance(NamedTuple):
    """Largest differences that are put down to rounding, in nats."""

    mean: float
    """Over the actions of a sample but one, which may be as far out as `one`."""
    one: float

    def of(self, number: int) -> float:
        """Largest sum over this many actions of a sample."""
        return self.one + (number - 1) * self.mean

    def holds(self, gaps: np.ndarray) -> bool:
        """Whether the differences of a sample's actions are within it; not a number is not."""
        return not len(gaps) or bool(gaps.max() <= self.one and gaps.sum() <= self.of(len(gaps)))


EXACT = Tolerance(mean=2e-3, one=0.05)
"""For float32, where differences are some 1e-5."""
NARROW = Tolerance(mean=0.2, one=2.0)
"""For bfloat16, which has 8 bits: logits near 16 are rounded to an eighth or a sixteenth, whichever
way they are made. docs/decisions/0010-every-family-samples.md has what was measured."""
SHAKES = 2
"""Times that rounding is measured where a batch is not within that."""
TYPICAL, WORST = 2.0, 3.0
"""How many times what was measured is allowed: in the mean of the batch, and for any sample."""


def tolerance(precision: torch.dtype) -> Tolerance:
    """What rounding may make of log-probabilities computed in this precision."""
    return EXACT if precision in (torch.float32, torch.float64) else NARROW


def require_agreement(
    samples: Sequence[Sample],
    logprobs_BT: Tensor,
    mask_BT: Tensor,
    allowed: Tolerance,
    spell: Spell,
    shaken: Shaken | None = None,
) -> None:
    """Stop where the learner's log-probabilities are not those that samples were drawn with.

    In bfloat16 what is beyond the tolerance is held to what rounding makes of these very samples:
    low temperatures and large logits multiply it, and where a network chooses among experts the
    least of it may change all that follows.

    Args:
        samples: B samples.
        logprobs_BT: the learner's, in nats.
        mask_BT: True where there is an action.
        allowed: what is put down to rounding.
        spell: names an action in the message.
        shaken: measures rounding; None: the tolerance is all.

    Raises:
        TrainingError: they differ by more; it names the sample, the action and both values.
    """
    gaps = [
        _gaps(sample, learned_T[mask_T])
        for sample, learned_T, mask_T in zip(samples, logprobs_BT, mask_BT, strict=True)
    ]
    place = _first_beyond(gaps, allowed)
    if place is not None and shaken is not None and allowed is NARROW:
        moved_SBT = torch.stack([shaken(seed) for seed in range(SHAKES)]) - logprobs_BT
        place = _first_beyond_rounding(gaps, moved_SBT, mask_BT, allowed)
    if place is not None:
        learned = logprobs_BT[place][mask_BT[place]].double().cpu().numpy()
        raise _disagreement(samples[place], learned, gaps[place], spell)


def _gaps(sample: Sample, learned: Tensor) -> np.ndarray:
    """Differences between what a sample was drawn with and what the learner gives its actions."""
    drawn = np.asarray(sample.content.logprobs, np.float64)
    if len(drawn) != len(learned):
        raise TrainingError(
            f"{len(drawn)} actions were drawn, the learner reads {len(learned)}",
            where=sample.place,
            hint="The sample was written anew on its way to the learner, as when text is "
            "decoded and encoded again: what is learned from was never drawn.",
        )
    return np.abs(drawn - learned.double().cpu().numpy())


def _first_beyond(gaps: Sequence[np.ndarray], allowed: Tolerance) -> int | None:
    return next((i for i, each in enumerate(gaps) if not allowed.holds(each)), None)


def _first_beyond_rounding(
    gaps: Sequence[np.ndarray], moved_SBT: Tensor, mask_BT: Tensor, allowed: Tolerance
) -> int | None:
    """The first sample beyond what shaking moved the learner's own log-probabilities by, or the
    worst one where it is all of them together; None where neither is so.
    """
    moved = moved_SBT.double().abs().cpu().numpy() * mask_BT.cpu().numpy()
    numbers = mask_BT.sum(1).clamp(min=1).cpu().numpy()
    worst = Tolerance(
        mean=max(allowed.mean, WORST * float((moved.sum(2) / numbers).max())),
        one=max(allowed.one, WORST * float(moved.max())),
    )
    found = next(
        (
            i
            for i, g in enumerate(gaps)
            if len(g) and not (worst.holds(g) and g.mean() <= worst.mean)
        ),
        None,
    )
    if found is not None:
        return found
    typical = float(moved.sum() / (len(moved) * numbers.sum()))
    if np.concatenate(gaps).mean() <= max(allowed.mean, TYPICAL * typical):
        return None
    return int(np.argmax([each.mean() if len(each) else 0.0 for each in gaps]))


def _disagreement(
    sample: Sample, learned: np.ndarray, gaps: np.ndarray, spell: Spell
) -> TrainingError:
    drawn, worst = np.asarray(sample.content.logprobs, np.float64), int(gaps.argmax())
    mean = float(gaps.mean())
    return TrainingError(
        f"action {worst + 1} of {len(drawn)}, {spell(sample, worst)}, was drawn with "
        f"log-probability {drawn[worst]:.4g}, the learner gives it {learned[worst]:.4g}; over the "
        f"sample they differ by {mean:.3g} nats an action, which is more than rounding",
        where=sample.place,
        hint="Sampler and learner do not have the same policy: usually their weights, their "
        "temperatures or the tokens they read differ, or one of them computes the model wrongly.",
    )
