"""Losses beside an algorithm's own: next-token loss on text (InstructGPT's PPO-ptx)."""

from collections.abc import Callable, Sequence
from typing import Protocol

from backflip.algorithms import ActionInputs, LossTerm, MixedText, Outputs, TrainBatch
from backflip.errors import SettingsError
from backflip.records import Order, derive_seed
from backflip.training.learner import LossPart

AuxiliaryLoss = Callable[[int], LossPart]
"""Gives the part of an update by the update's number."""


class TextRows(Protocol):
    """Rows of text that next tokens are learned from."""

    def __len__(self) -> int: ...

    def inputs(self, places: Sequence[int]) -> ActionInputs:
        """The rows at these places as inputs of the policy; every token but the first counts."""
        ...


ReadText = Callable[[Sequence[str]], TextRows]
"""Reads files as rows for the policy; a `SettingsError` where it reads no text."""


def pretraining_mix(mixed: MixedText, read: ReadText, *, seed: int) -> AuxiliaryLoss | None:
    """Next-token loss on text in every update of a policy, where it is asked for.

    Ouyang et al. 2022, "InstructGPT", equation 2, the last term.

    Raises:
        SettingsError: the files cannot be read, or hold nothing.
    """
    if not mixed.weight:
        return None
    rows = read(mixed.files)
    if not len(rows):
        raise SettingsError("holds no text to learn from", where="algorithm.ptx_text")
    order = Order(len(rows), derive_seed(seed, "ptx"))

    def part(update: int) -> LossPart:
        size = mixed.batch_size
        inputs = rows.inputs(list(order.take(update * size, size)))
        return LossPart(TrainBatch(inputs=inputs), next_token, weight=mixed.weight)

    return part


def next_token(outputs: Outputs, batch: TrainBatch) -> list[LossTerm]:
    """Minus the log-likelihood of the text, over its tokens."""
    logprobs = outputs.logprobs_BT.masked_fill(~batch.mask_BT, 0.0)
    return [LossTerm("ptx_loss", -logprobs.sum(), weight=1.0)]
