"""How long texts may be, by every setting and every model that reads them."""

from dataclasses import dataclass
from typing import Self

from backflip.config import ChatSettings, RewardSettings, SamplingSettings, SftSettings
from backflip.data import Chat
from backflip.data.lengths import Limit
from backflip.models import find_model, load_tokenizer, position_limit
from backflip.models.adapted import AdaptedModel
from backflip.models.limits import vocabulary_size
from backflip.models.load import load_config


@dataclass(frozen=True, eq=False)
class TextReader:
    """What reads text: dialogues as tokens, and a model of so many positions (None: of any).

    `name` is the model's, as a user finds it.
    """

    chat: Chat
    positions: int | None
    name: str = ""

    @classmethod
    def of(cls, name: str, settings: ChatSettings, like: "TextReader | None" = None) -> Self:
        """The reader of a model that `find_model` knows.

        Args:
            name: of the model.
            settings: of its chat template.
            like: a reader whose encoder is taken where it reads alike: texts are then encoded
                once for both.

        Raises:
            ModelError: there is no such model, or it has no tokenizer.
        """
        config = load_config(find_model(name))
        rows = getattr(config.get_text_config(), "vocab_size", None)
        chat = Chat(load_tokenizer(name), settings, rows=rows)
        if like is not None and _alike(chat, like.chat):
            chat = like.chat
        return cls(chat, position_limit(config), name)

    @classmethod
    def of_model(cls, network: AdaptedModel, settings: ChatSettings | None = None) -> Self:
        """The reader of a network that is loaded."""
        chat = Chat(network.tokenizer, settings, rows=vocabulary_size(network.model))
        name = str(network.tokenizer.name_or_path)
        return cls(chat, position_limit(network.model.config), name)


def _alike(one: Chat, other: Chat) -> bool:
    if (one.settings, one.rows) != (other.settings, other.rows):
        return False
    first, second = one.tokenizer, other.tokenizer
    return (first.get_vocab(), first.chat_template) == (second.get_vocab(), second.chat_template)


def prompt_limits(
    sampling: SamplingSettings,
    policy: TextReader,
    reward: TextReader | None,
    settings: RewardSettings,
) -> list[Limit]:
    """What every prompt must keep within, so that a reply to it can be drawn, and scored.

    Args:
        sampling: how replies are drawn.
        policy: what answers.
        reward: what scores replies; None where no reward model is trained.
        settings: of the reward.
    """
    reply = sampling.max_tokens
    most = sampling.max_prompt_tokens
    limits = [
        Limit(
            policy.chat,
            most,
            f"sampling.max_prompt_tokens allows {most}",
            lambda n: f"set sampling.max_prompt_tokens to {n} or more",
        ),
        *_positions(policy, reply, "the model"),
    ]
    if reward is None:
        return limits
    if settings.too_long == "refuse":
        limits.append(
            Limit(
                reward.chat,
                settings.max_tokens - reply,
                f"beside a reply of {reply}, reward.max_tokens leaves room for "
                f"{max(settings.max_tokens - reply, 0)}",
                lambda n: f"set reward.max_tokens to {n + reply} or more",
            )
        )
    return [*limits, *scored_limits(sampling, reward)]


def scored_limits(sampling: SamplingSettings, reward: TextReader) -> list[Limit]:
    """What a prompt must keep within, so that a reward model can read it with a reply."""
    return _positions(reward, sampling.max_tokens, "the reward model")


def dialogue_limits(sft: SftSettings, policy: TextReader) -> list[Limit]:
    """What a demonstration and its prompt must keep within."""
    return [
        Limit(
            policy.chat,
            sft.sequence_length,
            f"sft.sequence_length allows {sft.sequence_length}",
            lambda n: f"set sft.sequence_length to {n} or more",
        ),
        *_positions(policy, 0, "the model"),
    ]


def feedback_limits(settings: RewardSettings, reader: TextReader, *, reward: bool) -> list[Limit]:
    """What a sample and its prompt must keep within, so that feedback on it can be learned from.

    Args:
        settings: of the reward.
        reader: what learns from it.
        reward: whether that is a reward model.
    """
    positions = _positions(reader, 0, "the reward model" if reward else "the model")
    if not reward:
        return positions
    limit = Limit(
        reader.chat,
        settings.max_tokens,
        f"reward.max_tokens allows {settings.max_tokens}",
        lambda n: f"set reward.max_tokens to {n} or more",
    )
    return [limit, *positions]


def _positions(reader: TextReader, reply: int, who: str) -> list[Limit]:
    if reader.positions is None:
        return []
    positions = reader.positions
    room = max(positions - reply, 0)
    why = f"{who} reads {positions}"
    if reply:
        why = f"beside a reply of {reply}, the {positions} that {who} reads leave room for {room}"

    def mend(longest: int) -> str:
        if reply and longest < positions:
            return f"set sampling.max_tokens to {positions - longest} or less"
        return f"shorten what is longer than the {positions} tokens that {who} reads"

    return [Limit(reader.chat, positions - reply, why, mend)]
