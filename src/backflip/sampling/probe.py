"""Which decoder is right for a model: found out by trying, not from a list of names.

A decoder is tried on rows of different lengths, against the model's own forward pass. How a model
computes does not depend on what it has learned, but whether a difference shows does: so the trial
is made with numbers in the place of the weights. Windows of attention, wherever the model or its
configuration keeps their widths, are narrower than the rows meanwhile: where a decoder forgets a
window, that shows too.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from backflip.errors import ModelError
from backflip.models.limits import position_limit
from backflip.models.quiet import quiet
from backflip.records.samples import IntArray
from backflip.sampling import experts
from backflip.sampling.aligned import AlignedDecoder
from backflip.sampling.decoder import Decoder
from backflip.sampling.fast import FastDecoder
from backflip.sampling.rounding import untried
from backflip.sampling.single import RereadingDecoder, SingleDecoder

_DECODERS: tuple[type[Decoder], ...] = (FastDecoder, AlignedDecoder, SingleDecoder)
_WINDOW = 6
_WIDTHS = re.compile("window|attention_chunk")  # attributes that keep their widths
# Tokens of each row, and how many of them are read as its prompt. The first one passes the room
# that caches make at first, all pass the window.
_ROWS = ((37, 29), (21, 17), (9, 5))
# Largest difference between a decoder's logits and the model's own, as a share of their spread:
# between rounding (1e-6) and the smallest mistake (1e-2).
_TOLERANCE = 1e-3
# What a decoder that does not fit a model may raise.
_MISFIT = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def pick_decoder(model: PreTrainedModel, opening: IntArray) -> Decoder:
    """The quickest decoder whose logits are the model's own.

    Needs memory for one more copy of the model's largest matrix, in float32.

    Raises:
        ModelError: the model's own forward pass fails.
    """
    training = model.training
    model.eval()
    try:
        with torch.inference_mode(), quiet():
            kind = _find(model)
    finally:
        model.train(training)
    return kind(model, opening)


def _find(model: PreTrainedModel) -> type[Decoder]:
    rows = _rows(model)
    try:
        with standing_in(model):
            # The model's own experts: its quicker ones take no weights that overlap.
            with experts.in_place(model, None):
                own = [_forward(model, row) for row, _ in rows]
            expected = torch.cat([of[read:] for of, (_, read) in zip(own, rows, strict=True)])
            return next((d for d in _DECODERS if _fits(d, model, rows, expected)), RereadingDecoder)
    except _MISFIT:
        pass  # perhaps it takes no numbers in the place of its weights
    try:
        _forward(model, rows[-1][0])
    except _MISFIT as error:
        raise ModelError(
            f"{type(model).__name__} cannot be sampled from: {type(error).__name__}: {error}",
            hint="Use a causal language model.",
        ) from error
    return RereadingDecoder


def _forward(model: PreTrainedModel, row: IntArray) -> Tensor:
    """(T, V) logits by the model's own forward pass."""
    return model(input_ids=torch.from_numpy(row).long().to(model.device)[None]).logits[0]


def _rows(model: PreTrainedModel) -> list[tuple[IntArray, int]]:
    size = model.config.get_text_config().vocab_size
    most = position_limit(model.config) or _ROWS[0][0]
    rows = [(min(length, most), min(read, most - 2)) for length, read in _ROWS]
    return [(np.linspace(1, size - 1, length).astype(np.int32), read) for length, read in rows]


def _fits(
    kind: type[Decoder],
    model: PreTrainedModel,
    rows: Sequence[tuple[IntArray, int]],
    expected: Tensor,
) -> bool:
    """Whether a decoder of this kind gives the logits that are expected after the prompts."""
    try:
        logits = _logits(kind(model, np.empty(0, np.int32), untried(model)), rows)
    except _MISFIT:
        return False
    spread = (expected - expected.mean(-1, keepdim=True)).abs().amax()
    return bool((logits - expected).abs().amax() <= _TOLERANCE * spread)


def _logits(decoder: Decoder, rows: Sequence[tuple[IntArray, int]]) -> Tensor:
    """(R, V) logits of the tokens after the prompts, row by row; the rows are drawn together."""
    found: list[list[Tensor]] = [[] for _ in rows]
    with decoder.active():
        held = decoder.rows(len(rows))
        for slot, (row, read) in enumerate(rows):
            held.put([slot], decoder.read([row[: read + 1]]), [0])
        for step in range(max(len(row) - read for row, read in rows)):
            # The longest stretch comes first, so those that go on are the first ones.
            going = [(row, read + step) for row, read in rows if read + step < len(row)]
            tokens = np.array([row[place] for row, place in going], np.int32)
            lengths = np.array([place for _, place in going], np.int32)
            for of_row, logits in zip(found, decoder.step(tokens, lengths, held), strict=False):
                of_row.append(logits)
    return torch.stack([logits for of_row in found for logits in of_row])


@contextmanager
def standing_in(model: nn.Module) -> Iterator[None]:
    """Inside the block `model` has numbers for weights, all float32, and narrow windows.

    The numbers are views of one short random vector: they take no memory to speak of.
    """
    places: list[tuple[dict[str, Any], str, Any]] = []
    try:
        numbers = _Numbers(model)
        for module in model.modules():
            for name, weight in module._parameters.items():
                if weight is not None and weight.is_floating_point():
                    places.append((module._parameters, name, weight))
                    module._parameters[name] = numbers.of(name, weight)
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.is_floating_point():
                    places.append((module._buffers, name, buffer))
                    module._buffers[name] = buffer.float()
        for owner in _owners(model):
            for name, width in vars(owner).items():
                if _WIDTHS.search(name) and type(width) is int and width > _WINDOW:
                    places.append((vars(owner), name, width))
                    vars(owner)[name] = _WINDOW
        yield
    finally:
        for place, name, own in reversed(places):
            place[name] = own


def _owners(model: nn.Module) -> list[Any]:
    """Everything that may keep the width of a window."""
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    return [*model.modules(), *configs.values()]


class _Numbers:
    """Tensors of a model's shapes, cut from a random vector that they overlap in."""

    # Neighbours along each dimension, from the last one, lie so far apart in the vector.
    STRIDES = (1, 7, 131, 1031, 8209)
    STARTS = 9973

    def __init__(self, model: nn.Module):
        weights = list(model.parameters())
        length = self.STARTS + max(self._reach(w.shape) for w in weights)
        generator = torch.Generator().manual_seed(0)
        self._vector = torch.randn(length, generator=generator).to(weights[0].device)
        self._scaled: dict[tuple[float, float], Tensor] = {}
        self._made: dict[int, nn.Parameter] = {}

    def of(self, name: str, weight: Tensor) -> nn.Parameter:
        """What stands in for a weight, the same for places that share it: tied weights stay tied.

        Matrices keep the size of what they are given, whatever their width; norms do about nothing.
        """
        known = self._made.get(id(weight))
        if known is not None:
            return known
        if weight.ndim > 1:
            scale, base = 1.5 / weight.shape[-1] ** 0.5, 0.0
        else:
            scale, base = 0.1, float(name == "weight")  # of a norm
        vector = self._scaled.setdefault((scale, base), self._vector * scale + base)
        start = 1009 * len(self._made) % self.STARTS
        strides = self.STRIDES[: weight.ndim][::-1]
        made = nn.Parameter(vector.as_strided(weight.shape, strides, start), requires_grad=False)
        return self._made.setdefault(id(weight), made)

    def _reach(self, shape: Sequence[int]) -> int:
        strides = self.STRIDES[: len(shape)][::-1]
        return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
