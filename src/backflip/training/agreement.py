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


EXACT = Tolerance(mean=2e-3, one=0.05)
"""For float32, where differences are some 1e-5."""
NARROW = Tolerance(mean=0.2, one=2.0)
"""For bfloat16, which has 8 bits: logits near 16 are rounded to an eighth or a sixteenth, whichever
way they are made. docs/decisions/0010-every-family-samples.md has what was measured."""


def tolerance(precision: torch.dtype) -> Tolerance:
    """What rounding may make of log-probabilities computed in this precision."""
    return EXACT if precision in (torch.float32, torch.float64) else NARROW


def require_agreement(
    samples: Sequence[Sample],
    logprobs_BT: Tensor,
    mask_BT: Tensor,
    allowed: Tolerance,
    spell: Spell,
) -> None:
    """Stop where the learner's log-probabilities are not those that samples were drawn with.

    Args:
        samples: B samples.
        logprobs_BT: the learner's, in nats.
        mask_BT: True where there is an action.
        allowed: what is put down to rounding.
        spell: names an action in the message.

    Raises:
        TrainingError: they differ by more; it names the sample, the action and both values.
    """
    for sample, learned_T, mask_T in zip(samples, logprobs_BT, mask_BT, strict=True):
        drawn = np.asarray(sample.content.logprobs, np.float64)
        learned = learned_T[mask_T].double().cpu().numpy()
        if len(drawn) != len(learned):
            raise TrainingError(
                f"{len(drawn)} actions were drawn, the learner reads {len(learned)}",
                where=sample.place,
                hint="The sample was written anew on its way to the learner, as when text is "
                "decoded and encoded again: what is learned from was never drawn.",
            )
        gaps = np.abs(drawn - learned)
        # Not a number is no agreement either.
        if len(gaps) and not (gaps.max() <= allowed.one and gaps.sum() <= allowed.of(len(gaps))):
            raise _disagreement(sample, drawn, learned, int(gaps.argmax()), spell)


def _disagreement(
    sample: Sample, drawn: np.ndarray, learned: np.ndarray, worst: int, spell: Spell
) -> TrainingError:
    mean = float(np.abs(drawn - learned).mean())
    return TrainingError(
        f"action {worst + 1} of {len(drawn)}, {spell(sample, worst)}, was drawn with "
        f"log-probability {drawn[worst]:.4g}, the learner gives it {learned[worst]:.4g}; over the "
        f"sample they differ by {mean:.3g} nats an action, which is more than rounding",
        where=sample.place,
        hint="Sampler and learner do not have the same policy: usually their weights, their "
        "temperatures or the tokens they read differ, or one of them computes the model wrongly.",
    )
