"""A language model with a scalar head: a reward model, or the value function of PPO."""

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
from backflip.models.adapted import AdaptedModel
from backflip.models.files import read_record
from backflip.models.inputs import TextInputs
from backflip.models.limits import vocabulary_size
from backflip.models.load import find_model, from_files, load_config, load_network
from backflip.models.padding import end_ids, with_own_padding
from backflip.models.precision import pick_device, pick_precision
from backflip.models.quiet import isolated_rng, quiet

HEAD = "score"


class TextScorer(AdaptedModel):
    """A causal network whose head turns the state after a token into one number.

    A new head is drawn from normal(0, 1 / sqrt(D + 1)) (Stiennon et al. 2020, "Learning to
    summarize from human feedback"; kept by Huang et al. 2024). It is float32, multiplied in
    float32 and trained, whatever the rest is: eight bits would make ties of close replies.

    Saved folders load as `AutoModelForSequenceClassification` with the same scores, in a batch
    that their own tokenizer has padded too. For that they are padded with a token that is nothing
    else (see `models.padding`). Where the embeddings have no row for it, the saved ones have one
    more; the network here never reads its padding and needs none.
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
        from transformers import (
            MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
            AutoModelForSequenceClassification,
            GenerationConfig,
        )

        device = pick_device(settings.device)
        precision = pick_precision(settings.precision, device)
        whole = trainable and settings.lora is None
        source = find_model(settings.name)
        config = load_config(source)
        if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
            raise ModelError(
                f"transformers has no sequence classification for {config.model_type} models",
                where=str(source),
                hint="Take a policy of it, and a reward model of another family that has "
                "the same tokenizer.",
            )
        saved = any(a.endswith("ForSequenceClassification") for a in config.architectures or ())
        if saved and config.num_labels != 1:
            raise ModelError(f"gives {config.num_labels} scores, not one", where=str(source))
        config.num_labels = 1
        model, tokenizer = load_network(
            AutoModelForSequenceClassification,
            source,
            config,
            dtype=torch.float32 if whole else precision,
            new_head=None if saved else HEAD,
        )
        if isinstance(source, Path) and (source / "generation_config.json").is_file():
            # Several tokens may end a reply; this is where language models name them.
            model.generation_config = from_files(GenerationConfig, source)
        head = _head(model)
        if not saved:
            _initialise(head, seed, head_scale)
        elif isinstance(source, Path):
            # Narrowed with the rest of the model; the file has it whole.
            head.float().weight.data.copy_(_saved_tensor(source, f"{HEAD}.weight"))
        return cls.from_model(
            model.to(device),
            tokenizer,
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
        own = with_own_padding(tokenizer, end_ids(model, tokenizer))
        return super().from_model(model, own, **options)

    def scores(self, inputs: TextInputs) -> Tensor:
        """(B,) float32: the head on the state after the last token of each row.

        Raises:
            ModelError: a row is longer than the model reads, or not of its vocabulary.
        """
        inputs = inputs.to(self.device)
        rows_B = torch.arange(inputs.num_rows, device=self.device)
        return self._apply_head(self.states(inputs, rows_B, inputs.row_lengths - 1))

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

    def final_values(self, inputs: TextInputs) -> Tensor:
        """(B,) float32: the head on the state after each row's last token, in units of `values`."""
        center, scale = self.record.get("center", 0.0), self.record.get("scale", 1.0)
        return (self(inputs) - center) / scale

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

    def _plain_model(self) -> PreTrainedModel:
        """The network without adapters, which knows what its tokenizer pads with."""
        plain = super()._plain_model()
        pad: Any = self.tokenizer.pad_token_id  # there is one since `from_model`
        rows = vocabulary_size(plain)
        if pad >= rows:
            with quiet(), isolated_rng(0):
                grown = plain.resize_token_embeddings(pad + 1, mean_resizing=False)
            grown.weight.data[rows:] = 0
        plain.config.get_text_config().pad_token_id = pad
        return plain


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
