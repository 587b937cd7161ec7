"""A language model as two calls: read prompts, and take one step of many rows.

    with decoder.active():
        states = decoder.read(prompts)          # keys and values of all but their last tokens
        cache.put(slots, states, rows)
        logits = decoder.step(tokens, lengths, cache)

A prompt's last token is left to the first step, so every drawn token comes out of the same code,
and no logits are computed while prompts are read.

Whether a class of models can be run this way is not taken from a list: on construction the decoder
draws logits its own way and through the model's own forward pass, and refuses a model whose own
logits it does not reproduce (positions counted elsewhere, attention sinks, recurrent layers).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from backflip.errors import ModelError
from backflip.models.limits import position_limit
from backflip.models.quiet import quiet
from backflip.records.samples import IntArray
from backflip.sampling.attention import decoding, in_place
from backflip.sampling.cache import PromptStates, RowCache
from backflip.sampling.packed import PackedLinears

# Matrix products take another path below eight rows in some libraries (MKL), and round differently
# there. Never fewer rows: a reply drawn alone has the same bits as one drawn among many.
MIN_ROWS = 8
# Prompts are read in groups of equal padded length, so that padding, too, does not depend on
# neighbours.
PROMPT_STEP = 8
# An opening of fewer tokens is read with each prompt: that costs less than joining the parts.
LEAST_OPENING = 8
# Largest difference between the engine's logits and the model's own, as a share of their spread.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.15, torch.float16: 0.05}


class Shape(NamedTuple):
    """How a prompt is read: its tokens in the shared opening, and its own ones with padding."""

    shared: int
    own: int


NOTHING = Shape(0, 0)  # a prompt of one token


class Decoder:
    """Runs `model` row by row; see the module's docstring.

    Args:
        model: is used in place.
        opening: tokens that most prompts begin with, read once for all of those; may be empty.

    Raises:
        ModelError: the model cannot be run this way.
    """

    def __init__(self, model: PreTrainedModel, opening: IntArray):
        self.model = model
        self._opening = opening if len(opening) >= LEAST_OPENING else opening[:0]
        self._opened: PromptStates | None = None
        self._packed = PackedLinears(model)
        self._made_of: list[tuple[int, int]] = []
        self._check()

    @contextmanager
    def active(self) -> Iterator[None]:
        """`read` and `step` work inside this block; after it the model is as it was before."""
        model, training = self.model, self.model.training
        model.eval()
        try:
            self.renew()
            # Some models warn of a missing mask: rows are masked by their length here.
            with torch.inference_mode(), quiet(), in_place(model), self._packed.in_place():
                yield
        finally:
            model.train(training)

    def renew(self) -> None:
        """Make anew what was made of the weights, unless they are the same as before.

        A tensor counts how often it was written to; writing to its `.data` escapes that.
        """
        weights = self.model.parameters()
        state = [(w.data_ptr(), 0 if w.is_inference() else w._version) for w in weights]
        if state != self._made_of:
            self._made_of = state
            self._opened = None
            self._packed.pack()

    def shape(self, prompt: IntArray) -> Shape:
        """How `prompt` is read."""
        shared = len(self._opening)
        if len(prompt) - 1 <= shared or not np.array_equal(prompt[:shared], self._opening):
            shared = 0
        own = -(-(len(prompt) - 1 - shared) // PROMPT_STEP) * PROMPT_STEP
        return Shape(shared, own)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def num_positions(self) -> int | None:
        """Positions that the model knows; None where it does not say."""
        return position_limit(self.model.config)

    def read(self, prompts: Sequence[IntArray]) -> PromptStates:
        """Read all but the last token of prompts whose `shape` is the same, and not `NOTHING`."""
        shared, own = self.shape(prompts[0])
        if not shared:
            return self._read([prompt[:-1] for prompt in prompts], own, None)
        if self._opened is None:
            self._opened = self._read([self._opening], shared, None)
        return self._read([prompt[shared:-1] for prompt in prompts], own, self._opened)

    def _read(
        self, parts: Sequence[IntArray], length: int, before: PromptStates | None
    ) -> PromptStates:
        """Read parts of prompts, padded to `length`, that all come after the one row `before`."""
        tokens_BP = np.zeros((len(parts), length), np.int64)
        for row, part in enumerate(parts):
            tokens_BP[row, : len(part)] = part
        states = DynamicCache()
        if before is not None:
            for index, (keys, values) in enumerate(before.layers):
                wide = (len(parts), -1, -1, -1)
                states.update(keys.expand(*wide), values.expand(*wide), index)
        start = 0 if before is None else before.room
        # Causal attention: the padding on the right changes nothing on its left, so it may stand
        # on the last position where the model has no more.
        last = start + length if self.num_positions is None else self.num_positions - 1
        positions = torch.arange(start, start + length, device=self.device).clamp(max=last)
        self.model.base_model(
            input_ids=torch.from_numpy(tokens_BP).to(self.device),
            position_ids=positions[None],
            past_key_values=states,
            use_cache=True,
        )
        return PromptStates([_held(layer) for layer in states.layers])

    def step(self, tokens_N: IntArray, lengths_N: IntArray, cache: RowCache) -> Tensor:
        """Feed one token to each of the cache's first N rows.

        Args:
            tokens_N: (N,) next token of each row.
            lengths_N: (N,) keys that each row holds before it.
            cache: holds at least max(N, MIN_ROWS) rows; N keys are written.

        Returns:
            (N, V) logits in the model's precision.
        """
        num_rows = len(tokens_N)
        width = max(num_rows, MIN_ROWS)
        tokens = np.zeros((width, 1), np.int64)
        lengths = np.zeros(width, np.int64)
        tokens[:num_rows, 0], lengths[:num_rows] = tokens_N, lengths_N
        lengths_W = torch.from_numpy(lengths).to(self.device)
        with decoding(cache.begin(lengths_W, int(lengths.max()))):
            output = self.model(
                input_ids=torch.from_numpy(tokens).to(self.device),
                position_ids=lengths_W[:, None],
                past_key_values=cache,
                use_cache=True,
            )
        return output.logits[:num_rows, -1]

    def _check(self) -> None:
        kinds = set(getattr(self.model.config.get_text_config(), "layer_types", None) or ())
        other = kinds - {"full_attention", "sliding_attention"}
        if other or not getattr(self.model, "_supports_attention_backend", False):
            why = f"it has {', '.join(sorted(other))} layers" if other else "its attention is fixed"
            raise self._unfit(why)
        try:
            own, ours = self._both_ways()
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise self._unfit(f"{type(error).__name__}: {error}") from error
        spread = float((own - own.mean(-1, keepdim=True)).abs().amax())
        difference = float((own - ours).abs().amax())
        if not difference <= TOLERANCE.get(self.model.dtype, 0.0) * spread:
            raise self._unfit(f"its logits differ by {difference:.3g} of {spread:.3g}")

    def _both_ways(self) -> tuple[Tensor, Tensor]:
        """(R, V) float32 logits of two short rows by the model's own forward pass, and by ours."""
        size = self.model.config.get_text_config().vocab_size
        rows = [np.linspace(1, size - 1, n).astype(np.int32) for n in (11, 7)]
        read = 4
        training = self.model.training
        self.model.eval()
        with torch.inference_mode(), quiet():
            tokens = [torch.from_numpy(row).long().to(self.device)[None] for row in rows]
            logits = [self.model(input_ids=t, use_cache=False).logits[0, read:] for t in tokens]
        self.model.train(training)
        with self.active():
            cache = RowCache(MIN_ROWS)
            both = torch.tensor([0, 1], device=self.device)
            cache.put(both, self.read([row[: read + 1] for row in rows]), both)
            steps: list[list[Tensor]] = [[], []]
            for place in range(read, len(rows[0])):
                alive = np.array([row[place] for row in rows if place < len(row)], np.int32)
                lengths = np.full(len(alive), place, np.int32)
                for of_row, step in zip(steps, self.step(alive, lengths, cache), strict=False):
                    of_row.append(step)
        return torch.cat(logits).float(), torch.stack([*steps[0], *steps[1]]).float()

    def _unfit(self, why: str) -> ModelError:
        return ModelError(
            f"{type(self.model).__name__} cannot be sampled by Backflip's engine: {why}",
            hint="use a decoder-only transformer such as Llama, Qwen, Gemma, Mistral or GPT-2",
        )


def _held(layer: object) -> tuple[Tensor, Tensor]:
    if not isinstance(layer, DynamicLayer) or layer.keys is None or layer.values is None:
        raise TypeError(f"{type(layer).__name__} holds no keys and values")
    return layer.keys, layer.values
