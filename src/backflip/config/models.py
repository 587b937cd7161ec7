"""Settings of models, optimisers and sampling."""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from backflip.config.base import Settings
from backflip.config.bounds import (
    Count,
    NotNegative,
    Number,
    Place,
    Positive,
    Share,
    Text,
    Variables,
    at_most,
)
from backflip.config.identity import ADDED, knob

Precision = Literal["auto", "float32", "bfloat16"]
Device = Literal["cpu", "cuda"]

_GIVEN_TO_TEMPLATES = frozenset(
    [
        "messages",
        "conversation",
        "conversations",
        "tools",
        "documents",
        "chat_template",
        "add_generation_prompt",
        "continue_final_message",
        "tokenize",
        "sanitize_control_tokens",
        "padding",
        "truncation",
        "max_length",
        "return_tensors",
        "return_dict",
        "return_assistant_tokens_mask",
        "tokenizer_kwargs",
        "backflip_dates",
    ]
)
"""What says how a template is rendered: as a variable it would change that, or be passed twice."""


class LoraSettings(Settings):
    """Low-rank adapters (Hu et al. 2021); the model without them is the reference."""

    rank: Count = Field(
        default=16, le=10_000, description="width of an adapter; more can learn more and takes more"
    )
    alpha: Positive = Field(default=32.0, description="scale: an adapter counts alpha / rank times")
    last_layers: Count | None = Field(
        default=None, le=10_000, description="adapt only this many layers from the top; none: all"
    )


class ChatSettings(Settings):
    """How dialogues become text: the tokenizer's chat template, and what it is given."""

    template: Place | None = Field(
        default=None,
        description="one of the tokenizer's named templates, or a file of a Jinja template; none: "
        "its default",
    )
    system: Literal["as_is", "first_user"] = Field(
        default="as_is",
        description="first_user: a system turn is written before the first user turn, for "
        "templates that know none",
    )
    kwargs: Variables = Field(
        default_factory=dict[str, JsonValue],
        description="variables for the template, such as enable_thinking = false; not what any "
        "template is given, as messages and tools",
    )
    today: Text = Field(
        default="2024-07-26",
        description="the date, YYYY-MM-DD, for templates that tell it; fixed, so that a prompt "
        "has the same tokens tomorrow",
    )

    @model_validator(mode="after")
    def _check_date(self) -> Self:
        try:
            date.fromisoformat(self.today)
        except ValueError:
            raise ValueError(f"today: {self.today!r} is no date like 2024-07-26") from None
        return self

    @model_validator(mode="after")
    def _check_variables(self) -> Self:
        if clash := sorted(_GIVEN_TO_TEMPLATES & self.kwargs.keys()):
            raise ValueError(
                f"kwargs: {', '.join(clash)}: no variable of a template, but what says how any is "
                "rendered"
            )
        return self


class ModelSettings(Settings):
    """Which model, and how it is held in memory."""

    name: Place = Field(
        default="smollm2-135m-instruct",
        description="a folder, a hub id, a .gguf file, a model of the workspace, or the built-in",
    )
    precision: Precision = Field(
        default="auto",
        description="auto: bfloat16 where the processor multiplies it natively, else float32",
    )
    device: Device = Field(
        default="cpu", description="where it is computed: the processor, or a graphics processor"
    )
    lora: LoraSettings | None = Field(
        default=None, description="train adapters only; none: train every weight"
    )
    chat: ChatSettings = Field(
        default=ChatSettings(),
        description="how dialogues become text for it",
        json_schema_extra=ADDED,
    )


class ScratchSettings(Settings):
    """A small Llama from random weights."""

    width: Count = Field(
        default=128, ge=8, le=100_000, description="size of a token's vector; heads divide it"
    )
    layers: Count = Field(default=4, le=1_000, description="number of layers")
    heads: Count = Field(default=4, le=10_000, description="attention heads a layer")
    key_value_heads: Count | None = Field(
        default=None,
        le=10_000,
        description="heads that keys and values share; none: as many as heads",
    )
    max_positions: Count = Field(
        default=1024,
        ge=16,
        le=10_000_000,
        description="longest text that the model can read, in tokens",
    )
    vocabulary: Count = Field(
        default=2048,
        ge=300,
        le=1_000_000,
        description="tokens of the tokenizer that is trained on the text",
    )


class OptimizerSettings(Settings):
    """AdamW (Loshchilov & Hutter 2019), its schedule and the size of a step."""

    learning_rate: Positive = Field(
        default=1e-5, description="largest rate; warm-up and schedule scale it"
    )
    weight_decay: NotNegative = Field(
        default=0.0, description="share of a weight taken off a step, times the rate; 0: off"
    )
    beta1: Share = Field(default=0.9, lt=1, description="memory of the mean of gradients")
    beta2: Share = Field(default=0.999, lt=1, description="memory of their mean square")
    epsilon: Positive = Field(default=1e-8, description="added to the root of that mean square")
    warmup_steps: Number = Field(
        default=0, description="updates over which the rate rises from nothing; 0: none"
    )
    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant", description="of the rate after warm-up; linear and cosine fall to 0"
    )
    max_grad_norm: Positive | None = Field(
        default=1.0, description="a longer gradient is scaled down to this; none: never"
    )
    micro_batch_tokens: Count = Field(
        default=4096,
        description="padded tokens in one forward pass; changes memory, not the result",
        json_schema_extra=knob(),
    )


def _ends_replies(text: str) -> str:
    # Not one of the usual texts: half a character is one, which a model may write.
    if not text:
        raise ValueError("is empty: every reply would end before it begins")
    if "\0" in text:
        raise ValueError("holds the character NUL, which no database keeps")
    return text


def _usable_temperature(value: float) -> float:
    if 0 < value < 1e-3:
        raise ValueError("logits divided by so little are no numbers any more; 0 is the likeliest")
    return value


class SamplingSettings(Settings):
    """How replies are drawn. Filters apply in the order temperature, top-k, top-p, min-p."""

    max_tokens: Count = Field(
        default=64, description="a reply is cut off here; for agents, the steps of a clip"
    )
    max_prompt_tokens: Count = Field(
        default=512,
        description="the most tokens that a prompt may have",
        json_schema_extra=knob("prompts.too_long"),
    )
    temperature: Annotated[NotNegative, AfterValidator(_usable_temperature)] = Field(
        default=1.0,
        le=100,
        description="0: always the likeliest token; else from 0.001",
    )
    top_k: Number = Field(default=0, description="draw from the k likeliest tokens; 0: from all")
    top_p: Share = Field(
        default=1.0,
        gt=0,
        description="draw from the fewest tokens that make up this probability; 1: from all",
    )
    min_p: Share = Field(
        default=0.0,
        lt=1,
        description="drop tokens less likely than this share of the likeliest; 0: none",
    )
    stop: tuple[Annotated[str, at_most(1000), AfterValidator(_ends_replies)], ...] = Field(
        default=(),
        max_length=100,
        description="a reply ends before any of these texts, none of them empty",
    )
    batch_size: Count = Field(
        default=64,
        description="replies drawn, or clips played, at once; memory only",
        json_schema_extra=knob(),
    )

    @property
    def is_plain(self) -> bool:
        """Whether tokens come from the policy's own distribution, as on-policy learning needs."""
        return not self.top_k and self.top_p == 1.0 and not self.min_p and self.temperature > 0
