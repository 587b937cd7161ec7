"""A language model with a head, as a reward for replies."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from backflip.config import ChatSettings
from backflip.data.chat import Chat
from backflip.data.lengths import encode_samples
from backflip.models import TextInputs, TextScorer, position_limit
from backflip.models.limits import vocabulary_size
from backflip.records import Completion, Dialogue, Sample
from backflip.rewards.batching import SCORING_TOKENS
from backflip.rewards.sources.trained import TrainedReward

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TextReward(TrainedReward):
    """Scores a reply at its last token, having read the whole dialogue.

    Zero and unit are those in the record that the network was saved with, 0 and 1 without one.

    Args:
        scorer: the network.
        tokenizer: None for the network's own. Samples that another one made are encoded again
            from their text.
        max_tokens: padded tokens in one forward pass of `score`; memory only.
        chat: which chat template, and what it is given.

    Raises:
        ModelError: the record's zero or unit is no number, or the chat template is not there.
    """

    def __init__(
        self,
        scorer: TextScorer,
        tokenizer: "PreTrainedTokenizerBase | None" = None,
        *,
        max_tokens: int = SCORING_TOKENS,
        chat: ChatSettings | None = None,
    ):
        super().__init__(max_tokens=max_tokens)
        self.scorer = scorer
        self.tokenizer = tokenizer or scorer.tokenizer
        self.chat = Chat(self.tokenizer, chat, rows=vocabulary_size(scorer.model))
        self.load_record(scorer.record)

    def collate(self, samples: Sequence[Sample]) -> TextInputs:
        """Samples as tokens, prompt and reply end to end.

        Raises:
            ModelError: the network cannot read one of them; it is named.
        """
        encoded = encode_samples(self.chat, samples, position_limit(self.scorer.model.config))
        prompts, replies = zip(*encoded, strict=True) if encoded else ((), ())
        return TextInputs.of(prompts, replies, pad_id=self.scorer.pad_id)

    def forward(self, inputs: TextInputs) -> Tensor:
        """(B,) float32 raw scores, with gradients."""
        return self.scorer.scores(inputs)

    def features(self, inputs: TextInputs) -> Tensor:
        """(B, D) float32 means of the last hidden states of each reply's tokens; 0 without any."""
        return self.scorer.reply_states(inputs)

    def applies_to(self, sample: Sample) -> bool:
        """True for a reply to a dialogue."""
        return isinstance(sample.content, Completion) and isinstance(
            sample.prompt.content, Dialogue
        )

    def save(self, folder: Path, record: Mapping[str, Any]) -> None:
        """Write the network's folder, zero and unit in its record; see `TextScorer.save`."""
        self.scorer.save(folder, {**record, **self.record()})
