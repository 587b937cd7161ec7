"""From the last hidden states of a language model to the log-probabilities of tokens.

Most models multiply by their output layer and stop. Others scale the product (Cohere, Granite),
cap it (Gemma 2), or do something of their own. What a model does is found out once, from numbers
that are put in the place of its output layer's product: the answer depends on how the model is
built and never on how large its weights happen to be.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from backflip.errors import ModelError
from backflip.losses.language import token_logprobs

_CHUNK = 512


@dataclass(frozen=True)
class Shaping:
    """What stands between the output layer's product and the logits: cap(scale x).

    `softcap` is None where nothing is capped; see `losses.language.token_logprobs`.
    """

    scale: float
    softcap: float | None


class ReadOut:
    """The function of a model from hidden states to logits.

    Attributes:
        shaping: what is done to the product of the output layer, so that log-probabilities come
            without all logits at once; None for a model that does something else: its own forward
            pass turns hidden states into logits, a chunk of positions at a time, more slowly.
    """

    def __init__(self, model: PreTrainedModel, never_M: Tensor | None = None):
        """Find out how a model reads its hidden states; its weights are only looked at.

        Args:
            model: the language model.
            never_M: ids that are never drawn: the others have all of the probability.

        Raises:
            ModelError: its logits do not come from the last hidden states of its trunk.
        """
        self._model = model
        self._never_M = None if never_M is None else never_M.to(model.device)
        self._trunk = _trunk(model)
        self.shaping = self._find_shaping()

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """(N, V) the model's own logits of hidden states, by its own forward pass."""

        def give(_module: nn.Module, _args: Any, output: Any) -> Any:
            output.last_hidden_state = hidden_ND[None]
            return output

        with self._trunk.register_forward_hook(give):
            return self._model(input_ids=_one_token(self._model), use_cache=False).logits[0]

    def logprobs(
        self,
        hidden_ND: Tensor,
        tokens_N: Tensor,
        *,
        temperature: float = 1.0,
        entropy: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """(N,) log-probabilities in nats of the token that followed each position, and entropies.

        Args:
            hidden_ND: last hidden states, after the final norm, at the positions that predict.
            tokens_N: the tokens.
            temperature: divides the logits.
            entropy: whether to return the entropy in nats of each distribution, else None.
        """
        if self.shaping is None:
            parts = [
                checkpoint(self._chunk, hidden, tokens, temperature, use_reentrant=False)
                for hidden, tokens in zip(
                    hidden_ND.split(_CHUNK), tokens_N.split(_CHUNK), strict=True
                )
            ]
            logprobs_N, entropy_N = (torch.cat(part) for part in zip(*parts, strict=True))
            return logprobs_N, entropy_N if entropy else None
        head: Any = self._model.get_output_embeddings()
        return token_logprobs(
            hidden_ND=hidden_ND,
            weight_VD=head.weight,
            bias_V=head.bias,
            tokens_N=tokens_N,
            temperature=temperature,
            entropy=entropy,
            scale=self.shaping.scale,
            softcap=self.shaping.softcap,
            never_M=self._never_M,
        )

    def _chunk(
        self, hidden_CD: Tensor, tokens_C: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        logits_CV = self.logits(hidden_CD).float() / temperature
        if self._never_M is not None:
            # Finite, so that an entropy of no probability has a gradient, which is 0.
            lowest = torch.finfo(logits_CV.dtype).min / 4
            logits_CV = logits_CV.index_fill(1, self._never_M, lowest)
        table_CV = logits_CV.log_softmax(-1)
        logprobs_C = table_CV.gather(1, tokens_C[:, None])[:, 0]
        return logprobs_C, -(table_CV.exp() * table_CV).sum(1)

    @torch.no_grad()
    def _find_shaping(self) -> Shaping | None:
        head = self._model.get_output_embeddings()
        if not isinstance(head, nn.Linear):
            return None
        width = head.in_features
        hidden_1D = torch.linspace(-1, 1, width, dtype=head.weight.dtype)[None]
        hidden_1D = hidden_1D.to(head.weight.device)
        seen: list[Tensor] = []

        def shaped(product_V: Tensor) -> Tensor:
            def give(_module: nn.Module, args: Any, _output: Any) -> Tensor:
                seen.append(args[0])
                return product_V[None, None]

            with head.register_forward_hook(give):
                return self.logits(hidden_1D)[0].double()

        grid_V = torch.linspace(-1, 1, head.out_features, dtype=torch.float64)
        found = _fit(lambda size: shaped(grid_V.to(hidden_1D.device) * size).cpu(), grid_V)
        untouched = all(torch.equal(given.reshape(-1), hidden_1D[0]) for given in seen)
        return found if untouched else None


def _fit(shaped: Any, grid_V: Tensor) -> Shaping | None:
    """The scale and cap that give `shaped(size)`, the logits of the product `size * grid_V`."""
    small, huge = 1e-4, 1e8
    scale = float(shaped(small) @ grid_V / (small * grid_V @ grid_V))
    largest = float(shaped(huge).abs().max())
    if not scale > 0 or not largest > 0:
        return None
    softcap = None if largest > 0.5 * scale * huge else largest
    shaping = Shaping(_rounded(scale), None if softcap is None else _rounded(softcap))
    for size in (small, 1.0, 10.0, 100.0, 1e4, huge):
        expected_V = grid_V * size * shaping.scale
        if shaping.softcap is not None:
            expected_V = (expected_V / shaping.softcap).tanh() * shaping.softcap
        if not torch.allclose(shaped(size), expected_V, rtol=1e-5, atol=1e-5 * small):
            return None
    return shaping


def _rounded(value: float) -> float:
    """Without the error of having been measured in float32: 0.25 and not 0.25000001."""
    return float(f"{value:.6g}")


def _one_token(model: PreTrainedModel) -> Tensor:
    return torch.zeros((1, 1), dtype=torch.long, device=model.device)


@torch.no_grad()
def _trunk(model: PreTrainedModel) -> nn.Module:
    """The module whose output the model's forward pass reads its logits from.

    It is the base model; where the forward pass goes past that, as OPT's does, the decoder in it.
    """
    called: list[nn.Module] = []
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    candidates = [m for m in (model.base_model, decoder) if isinstance(m, nn.Module)]
    hooks = [
        module.register_forward_hook(lambda made, _args, _output: called.append(made))
        for module in candidates
    ]
    try:
        model(input_ids=_one_token(model), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    for module in candidates:
        if module in called:
            return module
    raise ModelError(f"{type(model).__name__} does not compute its logits from its trunk's output")
