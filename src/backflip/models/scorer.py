"""A language model with a scalar head: a reward model, or the value function of PPO."""

import copy
import json
import math
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from backflip.config import ModelSettings
from backflip.errors import ModelError
from backflip.models.adapted import AdaptedModel, vocabulary_size
from backflip.models.files import read_record
from backflip.models.inputs import TextInputs
from backflip.models.load import find_model, from_files, load_tokenizer
from backflip.models.precision import pick_device, pick_precision

HEAD = "score"


class TextScorer(AdaptedModel):
    """A causal network whose head turns the state after a token into one number.

    A new head is drawn from normal(0, 1 / sqrt(D + 1)) (Stiennon et al. 2020, "Learning to
    summarize from human feedback"; kept by Huang et al. 2024). It is float32, multiplied in
    float32 and trained, whatever the rest is: eight bits would make ties of close replies.

    Saved folders load as `AutoModelForSequenceClassification` with the same scores. That class
    finds the end of a row as the last token that is not `config.pad_token_id`, so padding with
    the end token would hide the end of every reply; `scoring_pad_id` picks another one.
    """

    wide_parts: ClassVar[tuple[str, ...]] = (HEAD,)

    @classmethod
    def load(
        cls,
        settings: ModelSettings,
        trainable: bool = True,
        *,
        seed: int = 0,
        head_scale: float = 1.0,
    ) -> Self:
        """Load a scorer that was saved, or put a new head on a language model.

        Args:
            settings: which model, its precision, and its adapters.
            trainable: False to hold everything frozen, as a reward model in use is.
            seed: of a new head and of the adapters' first values.
            head_scale: multiplies a new head. At 1 its scores differ by about 1 before anything
                is learned; little feedback takes long to unlearn that.

        Raises:
            ModelError: there is no such model, or it cannot be used as a scorer.
        """
        from transformers import AutoConfig, AutoModelForSequenceClassification

        device = pick_device(settings.device)
        precision = pick_precision(settings.precision, device)
        whole = trainable and settings.lora is None
        source = find_model(settings.name)
        config = from_files(AutoConfig, source)
        saved = any(a.endswith("ForSequenceClassification") for a in config.architectures or ())
        if saved and config.num_labels != 1:
            raise ModelError(f"gives {config.num_labels} scores, not one", where=str(source))
        model = from_files(
            AutoModelForSequenceClassification,
            source,
            num_labels=1,
            dtype=torch.float32 if whole else precision,
            use_safetensors=True,
        )
        head = _head(model)
        if not saved:
            _initialise(head, seed, head_scale)
        elif isinstance(source, Path):
            # Narrowed with the rest of the model; the file has it whole.
            head.float().weight.data.copy_(_saved_tensor(source, f"{HEAD}.weight"))
        return cls.from_model(
            model.to(device),
            load_tokenizer(str(source)),
            lora=settings.lora,
            trainable=trainable,
            precision=precision,
            seed=seed,
            record=read_record(source) if isinstance(source, Path) else None,
        )

    @classmethod
    def from_model(
        cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, **options: Any
    ) -> Self:
        """See `AdaptedModel.from_model`; the head is taken as it is."""
        _head(model)
        ends = _end_ids(model, tokenizer)
        model.config.get_text_config().pad_token_id = scoring_pad_id(
            tokenizer, vocabulary_size(model), ends
        )
        return super().from_model(model, tokenizer, **options)

    @property
    def pad_id(self) -> int:
        """What to pad rows with. Any token would do: nothing is read off the padding."""
        found = self.model.config.get_text_config().pad_token_id
        return found if isinstance(found, int) else 0

    def scores(self, inputs: TextInputs) -> Tensor:
        """(B,) float32: the head on the state after the last token of each row.

        Raises:
            ModelError: a row is longer than the model reads, or not of its vocabulary.
        """
        inputs = inputs.to(self.device)
        rows_B = torch.arange(inputs.num_rows, device=self.device)
        return self._apply_head(self.states(inputs, rows_B, inputs.row_tokens - 1))

    def values(self, inputs: TextInputs) -> Tensor:
        """(B, T) float32: the head on the state before each reply token; 0 where masked.

        These are the states that the policy's log-probabilities of those tokens come from. A
        reward model's record says by what its scores are normalised ("center", "scale"); a value
        function that starts from it does so in the same units as the rewards it foresees.

        Raises:
            ModelError: a row is longer than the model reads, or not of its vocabulary.
        """
        inputs = inputs.to(self.device)
        mask_BT = inputs.mask_BT
        blank_BT = torch.zeros(mask_BT.shape)
        if not bool(mask_BT.any()):
            return blank_BT
        self._check_tokens(inputs.input_ids_BL)
        rows_N = mask_BT.nonzero()[:, 0]
        raw_N = self._apply_head(self.states(inputs, rows_N, inputs.predicting_BT[mask_BT]))
        center, scale = self.record.get("center", 0.0), self.record.get("scale", 1.0)
        values_N = (raw_N - center) / scale
        return blank_BT.masked_scatter(mask_BT.cpu(), values_N)

    def reply_states(self, inputs: TextInputs) -> Tensor:
        """(B, D) float32: the mean of the last hidden states of each row's reply tokens.

        A reply without tokens has 0.

        Raises:
            ModelError: a row is longer than the model reads, or not of its vocabulary.
        """
        inputs = inputs.to(self.device)
        mask_BT = inputs.mask_BT
        states_ND = self.states(inputs, mask_BT.nonzero()[:, 0], inputs.predicting_BT[mask_BT] + 1)
        replies = states_ND.float().split(inputs.reply_lengths_B.tolist())
        return torch.stack([reply.sum(0) / max(len(reply), 1) for reply in replies]).cpu()

    forward = scores

    def _apply_head(self, hidden_ND: Tensor) -> Tensor:
        head = _head(self.model)
        scores_N = nn.functional.linear(hidden_ND.to(head.weight.dtype), head.weight)[:, 0]
        return scores_N.float().cpu()  # where losses and batches are

    def _tokenizer_to_save(self) -> PreTrainedTokenizerBase:
        """The tokenizer, padding with what `AutoModelForSequenceClassification` will skip."""
        pad = self.model.config.get_text_config().pad_token_id
        if pad is None or pad == self.tokenizer.pad_token_id or pad >= len(self.tokenizer):
            return self.tokenizer
        tokenizer = copy.deepcopy(self.tokenizer)
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)
        return tokenizer


def scoring_pad_id(
    tokenizer: PreTrainedTokenizerBase, num_embeddings: int, end_ids: set[int]
) -> int | None:
    """A token to pad with that never ends a reply.

    In this order: the tokenizer's own padding, unless it may end a reply; an embedding that no
    token uses; the last special token without a role, then one with the role of unknown or
    beginning. None if every token may end a reply; such a scorer is only read row by row by
    `AutoModelForSequenceClassification` (and as ever by `TextScorer`).
    """
    if isinstance(tokenizer.pad_token_id, int) and tokenizer.pad_token_id not in end_ids:
        return tokenizer.pad_token_id
    if num_embeddings > len(tokenizer):
        return num_embeddings - 1
    roles = [tokenizer.bos_token_id, tokenizer.unk_token_id]
    special = [i for i, token in tokenizer.added_tokens_decoder.items() if token.special]
    spare = sorted(i for i in special if i not in roles)
    for candidate in (*reversed(spare), *reversed(roles)):
        if isinstance(candidate, int) and candidate not in end_ids:
            return candidate
    return None


def _end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Every token that may end a reply, by the model's settings or the tokenizer's."""
    ends: set[int] = set()
    configured = getattr(model.config.get_text_config(), "eos_token_id", None)
    for found in (tokenizer.eos_token_id, configured):
        several = found if isinstance(found, list | tuple) else [found]
        ends |= {end for end in several if isinstance(end, int)}
    return ends


def _head(model: PreTrainedModel) -> nn.Linear:
    head = getattr(model, HEAD, None)
    if not isinstance(head, nn.Linear) or head.out_features != 1 or head.bias is not None:
        raise ModelError(f"{type(model).__name__} has no head that gives one score")
    return head


def _initialise(head: nn.Linear, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(head.weight.shape, generator=generator) / math.sqrt(head.in_features + 1)
    head.float().weight.data.copy_(scale * drawn)


def _saved_tensor(folder: Path, name: str) -> Tensor:
    file = folder / "model.safetensors"
    index = folder / "model.safetensors.index.json"
    if not file.is_file() and index.is_file():
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        # Only the last part of what the index says: it must not lead out of the folder.
        file = folder / Path(places.get(name, "")).name
    try:
        with safe_open(file, framework="pt") as tensors:
            return tensors.get_tensor(name)
    except Exception as error:
        raise ModelError(f"holds no tensor {name}: {error}", where=str(folder)) from None
