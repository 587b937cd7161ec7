"""What policies and scorers share: a network trained whole or through adapters.

How a network is held follows from what is trained:

    trained         weights                     computed in bfloat16 by
    everything      float32, all of them        autocast, from the float32 masters
    adapters        base as computed, frozen;   the base itself; autocast for the adapters
                    adapters and head float32
    nothing         as computed                 itself

Dropout is off, always: a policy's log-probabilities must be those of the network that acted
(Huang et al. 2024, "The N+ implementation details of RLHF with PPO", detail on dropout), and a
run that is killed and started again must end with the same weights.
"""

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from backflip.config import LoraSettings
from backflip.errors import ModelError
from backflip.files.folders import new_folder
from backflip.models.files import write_record
from backflip.models.inputs import TextInputs
from backflip.models.limits import position_limit, vocabulary_size
from backflip.models.lora import adapted_layers, adapters_off, add_adapters, plain_state
from backflip.models.matching import require_same_tensors
from backflip.models.probes import is_causal, reads_packed_rows, reads_shared_rows
from backflip.models.quiet import isolated_rng, quiet
from backflip.models.shaking import shaken
from backflip.models.shared import SharedRows


class AdaptedModel(nn.Module):
    """A Hugging Face network over tokens, trained whole or through adapters.

    Attributes:
        model: the network, with its adapters if there are any.
        tokenizer: its tokenizer.
        precision: what it is computed in, and served in: `torch.float32` or `torch.bfloat16`.
        record: what was kept in `backflip.json` beside the weights it was loaded from.
    """

    wide_parts: ClassVar[tuple[str, ...]] = ()
    """Parts of the network, by name, that stay float32 and are trained whatever else is."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        precision: torch.dtype,
        record: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.precision = precision
        self.record = dict(record or {})
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                # torch gives this row no gradient, but the padding is often the end token, which
                # is read. The true padding gets none anyway: nothing that counts looks at it.
                module.padding_idx = None
        super().train(False)
        with self.autocast():
            self._shares_prompts = reads_shared_rows(model)

    @classmethod
    def from_model(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        lora: LoraSettings | None = None,
        trainable: bool = True,
        precision: torch.dtype | None = None,
        seed: int = 0,
        record: Mapping[str, Any] | None = None,
    ) -> Self:
        """Take over a network; it is changed in place.

        Args:
            model: the network.
            tokenizer: its tokenizer.
            lora: train adapters instead of the weights. Ignored when nothing is trained.
            trainable: whether anything is trained.
            precision: what to compute in; None for the network's own dtype.
            seed: of the adapters' first values.
            record: kept as `.record`.

        Raises:
            ModelError: the architecture is not one that can be read from right-padded rows.
        """
        if precision is None:
            precision = torch.bfloat16 if model.dtype == torch.bfloat16 else torch.float32
        model.eval()
        cls._check(model)
        whole = trainable and lora is None
        wide = [model.get_submodule(name) for name in cls.wide_parts]
        for part in wide:
            _hold(part.parameters(), torch.float32)
        kept = {id(p) for part in wide for p in part.parameters()}
        _hold(
            (p for p in model.parameters() if id(p) not in kept),
            torch.float32 if whole else precision,
        )
        model.requires_grad_(whole)
        if trainable and lora is not None:
            add_adapters(model, lora, seed=seed)
        for part in wide:
            part.requires_grad_(trainable)
        return cls(model, tokenizer, precision=precision, record=record)

    @classmethod
    def _check(cls, model: PreTrainedModel) -> None:
        """Refuse an architecture that would be read wrongly: rows are padded without a mask."""
        if not is_causal(model):
            raise ModelError(
                f"{type(model).__name__} is not causal: its tokens see those after them",
                hint="Take a decoder-only language model.",
            )

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @cached_property
    def packs(self) -> bool:
        """Whether documents in one row, told apart by their positions, do not see one another."""
        with self.autocast():
            return reads_packed_rows(self.model)

    @property
    def pad_id(self) -> int:
        """What to pad rows with. Any token would do: nothing is read off the padding.

        The tokenizer's own may be one that the network has no embedding for.
        """
        found = self.tokenizer.pad_token_id
        return found if isinstance(found, int) and found < vocabulary_size(self.model) else 0

    @property
    def has_adapters(self) -> bool:
        return next(adapted_layers(self.model), None) is not None

    def train(self, mode: bool = True) -> Self:
        """Does nothing: the network stays in evaluation mode, so that dropout is off."""
        del mode
        return self

    def autocast(self) -> Any:
        """The context that the network is computed in."""
        mixed = self.precision == torch.bfloat16 and any(
            p.dtype == torch.float32 for p in self.model.base_model.parameters()
        )
        return torch.autocast(self.device.type, self.precision) if mixed else nullcontext()

    def states(self, inputs: TextInputs, rows_N: Tensor, places_N: Tensor) -> Tensor:
        """(N, D) last hidden states at some places of some rows.

        Where several rows have one prompt, it is read once (see `models.shared`), if the
        architecture allows.

        Raises:
            ModelError: see `hidden`.
        """
        shared = SharedRows.of(inputs) if self._shares_prompts else None
        if shared is None:
            needed = int(places_N.max()) + 1
            return self.hidden(inputs.input_ids_BL[:, :needed])[rows_N, places_N]
        hidden_GLD = self.hidden(shared.tokens_GL, shared.positions_GL, shared.mask_G1LL)
        return hidden_GLD[shared.row_B[rows_N], shared.columns(rows_N, places_N)]

    def hidden(
        self,
        tokens_BL: Tensor,
        positions_BL: Tensor | None = None,
        sees_B1LL: Tensor | None = None,
    ) -> Tensor:
        """(B, L, D) last hidden states of right-padded rows, after the final norm.

        No attention mask is needed: in a causal network a token sees only those before it, so
        what stands in the padding on the right reaches no token. Its own states mean nothing.

        Args:
            tokens_BL: token ids on the network's device.
            positions_BL: place of each token in its document, when several documents are packed
                into a row; none sees another if the network `packs`. None: a row is one document.
            sees_B1LL: which tokens see which, where that is neither of the two.

        Raises:
            ModelError: a row is longer than the network reads, or a token is not in its
                vocabulary.
        """
        self._check_tokens(tokens_BL, positions_BL)
        given = {"position_ids": positions_BL, "attention_mask": sees_B1LL}
        # Some networks warn of a missing mask where a row ends in what they are padded with.
        with self.autocast(), quiet():
            output = self.model.base_model(
                input_ids=tokens_BL,
                use_cache=False,
                **{name: value for name, value in given.items() if value is not None},
            )
        return output.last_hidden_state

    def _check_tokens(self, tokens_BL: Tensor, positions_BL: Tensor | None = None) -> None:
        longest = position_limit(self.model.config)
        length = tokens_BL.shape[1] if positions_BL is None else int(positions_BL.max()) + 1
        if longest is not None and length > longest:
            raise ModelError(f"a row has {length} tokens; the model reads at most {longest}")
        size = vocabulary_size(self.model)
        if tokens_BL.numel() and not 0 <= int(tokens_BL.min()) <= int(tokens_BL.max()) < size:
            raise ModelError(
                f"a token is outside the model's vocabulary of {size}",
                hint="They were made by the tokenizer of another model, or by one to which tokens "
                "were added and the model has no embeddings of.",
            )

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Within the block the network is the one it started as; nothing there is trained.

        Raises:
            ModelError: the network is trained whole, so it has no start to go back to.
        """
        if not self.has_adapters:
            raise ModelError(
                "a model trained whole forgets its start",
                hint="Keep a frozen_copy() as the reference, or train adapters (lora).",
            )
        with adapters_off(self.model), torch.no_grad():
            yield

    def shaken(self, seed: int) -> AbstractContextManager[None]:
        """A context in which the network's results differ by what rounding may make of them."""
        embedding: Any = self.model.get_input_embeddings()
        return shaken(embedding, self.precision, seed)

    def frozen_copy(self) -> Self:
        """The network as it is now, computed bit for bit as here, and never trained."""
        twin = type(self)(
            copy.deepcopy(self.model), self.tokenizer, precision=self.precision, record=self.record
        )
        return twin.requires_grad_(False)

    def weights(self) -> dict[str, Tensor]:
        """The plain state dict, adapters folded in, in `precision`: what a sampler loads.

        Tensors that need no change are the network's own, not copies: copy before the next update.
        """
        cast: dict[tuple[int, torch.Size], Tensor] = {}  # tied weights are cast once
        weights: dict[str, Tensor] = {}
        for name, tensor in plain_state(self.model).items():
            key = (tensor.data_ptr(), tensor.shape)
            if tensor.is_floating_point() and tensor.dtype == torch.float32:
                tensor = cast.setdefault(key, tensor.to(self.precision))
            weights[name] = tensor.detach()
        return weights

    def trainable_state(self) -> dict[str, Tensor]:
        """What is trained, exactly; the network's own tensors, not copies."""
        return {n: p.detach() for n, p in self.model.named_parameters() if p.requires_grad}

    def load_trainable_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `trainable_state` gave.

        Raises:
            ModelError: the state is of another network or of other adapters; nothing is changed.
        """
        own = self.trainable_state()
        require_same_tensors(own, state, what="the trained state")
        for name, tensor in own.items():
            tensor.copy_(state[name])

    def save(self, folder: Path, record: Mapping[str, Any]) -> None:
        """Write a plain Hugging Face folder, adapters folded in, with the tokenizer and a record.

        Weights keep the format they are held in, so what is trained whole can be trained on from
        the same bits. The folder is there whole or not at all; one of the same name gives way.

        Raises:
            ModelError: the folder cannot be written.
        """
        plain = self._plain_model()
        with new_folder(Path(folder), replace=True) as draft:
            with quiet():
                plain.save_pretrained(draft)
                self.tokenizer.save_pretrained(draft)
            _declare_widest(draft, plain)
            write_record(draft, record)

    def _plain_model(self) -> PreTrainedModel:
        """The network without adapters, sharing every tensor that has none."""
        with torch.device("meta"), isolated_rng(0):
            plain = type(self.model)(copy.deepcopy(self.model.config))
        state = {name: tensor.contiguous() for name, tensor in plain_state(self.model).items()}
        plain.load_state_dict(state, strict=True, assign=True)
        plain.tie_weights()
        if getattr(self.model, "generation_config", None) is not None:
            plain.generation_config = copy.deepcopy(self.model.generation_config)
        return plain.eval()


def _hold(parameters: Iterable[nn.Parameter], dtype: torch.dtype) -> None:
    """Bring weights to `dtype`, in place and one by one; float64 is left alone."""
    for parameter in parameters:
        if parameter.dtype != torch.float64:
            parameter.data = parameter.data.to(dtype)


def _declare_widest(folder: Path, model: PreTrainedModel) -> None:
    """Have loaders read the folder in its widest format, so that a float32 head stays one."""
    widest = torch.float32
    dtypes = {p.dtype for p in model.parameters()}
    if widest not in dtypes or len(dtypes) == 1:
        return
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = str(widest).removeprefix("torch.")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
