"""A language model as a policy: the log-probabilities of the replies it could have written."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from backflip.config import ModelSettings
from backflip.errors import ModelError
from backflip.models.adapted import AdaptedModel
from backflip.models.files import read_record
from backflip.models.inputs import TextInputs
from backflip.models.limits import output_size, position_limit
from backflip.models.load import find_model, load_causal_lm
from backflip.models.precision import pick_device, pick_precision
from backflip.models.readout import ReadOut
from backflip.models.vocabulary import ids_without_text


@dataclass(frozen=True, eq=False)
class TextPolicyOutput:
    """What a policy thinks of replies; on the processor, wherever the network is, as batches are.

    Attributes:
        logprobs_BT: float32, in nats, of each reply token given those before it; 0 where masked.
        entropy_BT: float32, in nats, of the distribution each token was one draw of; 0 where
            masked; None when it was not asked for.
    """

    logprobs_BT: Tensor
    entropy_BT: Tensor | None = None


class TextPolicy(AdaptedModel):
    """A causal language model that is trained, or referred to.

    policy = TextPolicy.load(ModelSettings(lora=LoraSettings()))
    inputs = TextInputs.of(prompts, replies, policy.pad_id)
    logprobs_BT = policy.evaluate(inputs).logprobs_BT
    with policy.reference():
        ref_logprobs_BT = policy.evaluate(inputs).logprobs_BT
    sampler.load(policy.weights(), version=1)
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        precision: torch.dtype,
        record: Mapping[str, Any] | None = None,
    ):
        super().__init__(model, tokenizer, precision=precision, record=record)
        with self.autocast():
            self._readout = ReadOut(model, ids_without_text(tokenizer, output_size(model)))

    @classmethod
    def load(
        cls,
        settings: ModelSettings,
        trainable: bool = True,
        *,
        seed: int = 0,
    ) -> Self:
        """Load a model by name.

        Args:
            settings: which model, its precision, and its adapters.
            trainable: False for a policy that only acts or is referred to: everything is held in
                the precision it is computed in, and gets no adapters.
            seed: of the adapters' first values.

        Raises:
            ModelError: there is no such model, or it cannot be used as a policy.
        """
        device = pick_device(settings.device)
        precision = pick_precision(settings.precision, device)
        whole = trainable and settings.lora is None
        source = find_model(settings.name)
        model, tokenizer = load_causal_lm(
            str(source), dtype=torch.float32 if whole else precision, device=device
        )
        return cls.from_model(
            model,
            tokenizer,
            lora=settings.lora,
            trainable=trainable,
            precision=precision,
            seed=seed,
            record=read_record(source) if isinstance(source, Path) else None,
        )

    def evaluate(
        self, inputs: TextInputs, *, entropy: bool = False, temperature: float = 1.0
    ) -> TextPolicyOutput:
        """Log-probabilities of replies; logits exist only where a reply token is predicted.

        Args:
            inputs: B prompts and replies.
            entropy: whether to return entropies too.
            temperature: divides the logits; the sampler's, for replies as it drew them.

        Raises:
            ModelError: a row is longer than the model reads, or not of its vocabulary.
        """
        inputs = inputs.to(self.device)
        mask_BT = inputs.mask_BT
        if not bool(mask_BT.any()):
            nothing_BT = torch.zeros(mask_BT.shape)
            return TextPolicyOutput(nothing_BT, nothing_BT if entropy else None)
        self._check_tokens(inputs.input_ids_BL)
        rows_N = mask_BT.nonzero()[:, 0]
        return self._read(
            self.states(inputs, rows_N, inputs.predicting_BT[mask_BT]),
            inputs.actions_BT[mask_BT],
            mask_BT,
            temperature=temperature,
            entropy=entropy,
        )

    def evaluate_rows(
        self, tokens_BL: Tensor, mask_BL: Tensor, positions_BL: Tensor | None = None
    ) -> Tensor:
        """(B, L) float32 log-probabilities of the masked tokens of whole rows; 0 elsewhere.

        For pretraining and supervised fine-tuning, where a row may pack several documents. A
        network that does not read packed rows (`packs`) is given each document in a row of its
        own; the result is the same.

        Args:
            tokens_BL: token ids, padded on the right.
            mask_BL: True at the tokens to predict, each from those before it in its document.
            positions_BL: place of each token in its document, from 0; None for one a row.

        Raises:
            ModelError: the first token of a document is to be predicted, a row is longer than
                the model reads, or a token is not in its vocabulary.
        """
        tokens_BL, mask_BL = tokens_BL.to(self.device).long(), mask_BL.to(self.device)
        first_BL = torch.zeros_like(mask_BL)
        first_BL[:, 0] = True
        if positions_BL is not None:
            positions_BL = positions_BL.to(self.device).long()
            first_BL |= positions_BL == 0
        if bool((mask_BL & first_BL).any()):
            raise ModelError("nothing predicts the first token of a document")
        following_BT = mask_BL[:, 1:]
        if not bool(following_BT.any()):
            return torch.zeros(mask_BL.shape)
        self._check_tokens(tokens_BL, positions_BL)
        if positions_BL is not None and not self._reads_packed(tokens_BL.shape[1]):
            return self._evaluate_unpacked(tokens_BL, mask_BL, first_BL)
        places = None if positions_BL is None else positions_BL[:, :-1]
        hidden_BTD = self.hidden(tokens_BL[:, :-1], places)
        read = self._read(hidden_BTD[following_BT], tokens_BL[:, 1:][following_BT], following_BT)
        return nn.functional.pad(read.logprobs_BT, (1, 0))

    def _reads_packed(self, length: int) -> bool:
        """Some networks have masks for no longer a row than they have positions (GPT-Neo)."""
        limit = position_limit(self.model.config)
        return self.packs and (limit is None or length <= limit)

    def _evaluate_unpacked(self, tokens_BL: Tensor, mask_BL: Tensor, first_BL: Tensor) -> Tensor:
        """`evaluate_rows`, each document in a row of its own.

        Rows of like length are read together, no more padded tokens at a time than were packed.
        """
        numbers = first_BL.flatten().cumsum(0)
        flat, counts = tokens_BL.flatten(), mask_BL.flatten()
        places = [(numbers == n).nonzero()[:, 0] for n in numbers[counts].unique()]
        places.sort(key=len)
        logprobs = torch.zeros(flat.shape)
        while places:
            longest = len(places[-1])
            part = places[-max(1, len(flat) // longest) :]
            del places[-len(part) :]
            rows = pad_sequence([flat[at] for at in part], batch_first=True)
            masks = pad_sequence([counts[at] for at in part], batch_first=True)
            read = self.evaluate_rows(rows, masks)
            for at, row in zip(part, read, strict=True):
                logprobs = logprobs.index_copy(0, at.cpu(), row[: len(at)])
        return logprobs.view(mask_BL.shape)

    def _read(
        self,
        hidden_ND: Tensor,
        tokens_N: Tensor,
        mask_BT: Tensor,
        *,
        temperature: float = 1.0,
        entropy: bool = False,
    ) -> TextPolicyOutput:
        with self.autocast():
            logprobs_N, entropy_N = self._readout.logprobs(
                hidden_ND, tokens_N, temperature=temperature, entropy=entropy
            )
        blank_BT, mask_BT = torch.zeros(mask_BT.shape), mask_BT.cpu()
        return TextPolicyOutput(
            blank_BT.masked_scatter(mask_BT, logprobs_N.float().cpu()),
            None
            if entropy_N is None
            else blank_BT.masked_scatter(mask_BT, entropy_N.float().cpu()),
        )

    forward = evaluate
