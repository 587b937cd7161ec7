"""Prompts and samples: what a policy was asked, and what it did.

A prompt is a dialogue to answer or a situation of an environment to act in. A sample is what the
policy did there: a completion or a clip. Store, feedback, losses and loop see only `Prompt` and
`Sample`; the two kinds of content differ in who makes them and who looks at them.

    prompt = Prompt.from_text("Describe a rainy Monday.")
    completion = Completion(text="It pours.", tokens=tokens, logprobs=logprobs, finish="stop", ...)
    sample = Sample.of(prompt, completion, model="model-1f...", seed=7, index=0)
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, JsonValue

from backflip.records.base import Record, content_id
from backflip.records.parts import ImagePart, Said, images_of, shown, words_of

IntArray = NDArray[np.int32]
FloatArray = NDArray[np.float32]
Role = Literal["system", "user", "assistant", "tool"]
_ROW = re.compile(r":\d+$")
"""How the source of what was read from a file ends: with its row."""


def _is_absent(value: object) -> bool:
    """Absent fields are left out of what is stored and hashed: ids of plain turns stay."""
    return value is None or value == ()


class ToolCall(Record):
    """What an assistant asks a tool to do."""

    name: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    id: str | None = Field(default=None, exclude_if=_is_absent)


class Message(Record):
    """One turn of a dialogue.

    Attributes:
        role: who speaks; a "tool" turn is what a tool gave back.
        content: what is said, a text or parts of it; may be empty in an assistant's turn that
            calls tools.
        tool_calls: of an assistant's turn.
        tool_call_id: of a tool's turn: the call that it answers.
        tool_name: of a tool's turn: the tool.
    """

    role: Role
    content: Said
    tool_calls: tuple[ToolCall, ...] = Field(default=(), exclude_if=_is_absent)
    tool_call_id: str | None = Field(default=None, exclude_if=_is_absent)
    tool_name: str | None = Field(default=None, exclude_if=_is_absent)

    @property
    def words(self) -> str:
        """What is said in words: all that a reader of text alone has of the content."""
        return words_of(self.content)

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """The images among its parts."""
        return images_of(self.content)

    def carrying(self, image: Callable[[ImagePart], ImagePart]) -> Self:
        """The same turn with other objects for its images, which are equal to these."""
        if isinstance(self.content, str):
            return self
        parts = tuple(image(p) if isinstance(p, ImagePart) else p for p in self.content)
        return self.model_copy(update={"content": parts})

    @property
    def text(self) -> str:
        """The turn for a reader: its content, then each call as `name(arguments as JSON)`.

        Of an image stands there what is said of it.
        """
        calls = (
            f"{call.name}({json.dumps(call.arguments, ensure_ascii=False)})"
            for call in self.tool_calls
        )
        return "\n".join(part for part in (shown(self.content), *calls) if part)


class Dialogue(Record):
    """Turns to answer; the last one is the user's, or what a tool gave back.

    `tools` are descriptions of what the assistant may call, JSON schemas as templates take them:
    `{"type": "function", "function": {"name", "description", "parameters"}}`.
    """

    type: Literal["dialogue"] = "dialogue"
    messages: tuple[Message, ...] = Field(min_length=1)
    tools: tuple[dict[str, JsonValue], ...] = Field(default=(), exclude_if=_is_absent)

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """The images of all turns, as often as they are there."""
        return tuple(image for message in self.messages for image in message.images)


class Situation(Record):
    """A start in an environment to act from: `gymnasium.make(environment)` reset with `seed`."""

    type: Literal["situation"] = "situation"
    environment: str
    seed: int


class Prompt(Record):
    """What a policy is asked to do. Its id is the hash of its content, so it is never there twice.

    `split` says whether the prompt may be trained on; held-out prompts are only for evaluation.
    """

    content: Annotated[Dialogue | Situation, Field(discriminator="type")]
    source: str = "unknown"
    split: Literal["train", "heldout"] = "train"

    @cached_property
    def id(self) -> str:
        return content_id("prompt", self.content.model_dump())

    def under(self, id: str) -> Self:  # noqa: A002
        """The same prompt under the id that it had before its words were erased."""
        copy = self.model_copy()
        vars(copy)["id"] = id  # where the cached property looks first
        return copy

    @classmethod
    def from_text(cls, text: str, **fields: Any) -> Self:
        """One user turn."""
        return cls(content=Dialogue(messages=(Message(role="user", content=text),)), **fields)

    @property
    def place(self) -> str:
        """Where a user finds it: the file and the row it was read from, else its id and source."""
        if _ROW.search(self.source):
            return self.source
        return self.id if self.source == "unknown" else f"{self.id} ({self.source})"

    @property
    def messages(self) -> tuple[Message, ...]:
        """The turns of a dialogue; a `TypeError` for a situation."""
        if not isinstance(self.content, Dialogue):
            raise TypeError(f"{self.id} is a {self.content.type}, not a dialogue")
        return self.content.messages

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """The images in a dialogue, as often as they are there; none in a situation."""
        if not isinstance(self.content, Dialogue):
            return ()
        return self.content.images

    def carrying(self, image: Callable[[ImagePart], ImagePart]) -> Self:
        """The same prompt, whose images carry their bytes: `image` gives each with its own."""
        if not self.images or not isinstance(self.content, Dialogue):
            return self
        messages = tuple(message.carrying(image) for message in self.content.messages)
        content = self.content.model_copy(update={"messages": messages})
        return self.model_copy(update={"content": content})

    @property
    def tools(self) -> tuple[dict[str, JsonValue], ...]:
        """What the assistant may call in a dialogue; a `TypeError` for a situation."""
        if not isinstance(self.content, Dialogue):
            raise TypeError(f"{self.id} is a {self.content.type}, not a dialogue")
        return self.content.tools

    @property
    def text(self) -> str:
        """The prompt for a reader: the turns, or the situation's name."""
        if isinstance(self.content, Situation):
            return f"{self.content.environment} from seed {self.content.seed}"
        if len(self.content.messages) == 1:
            return self.content.messages[0].text
        return "\n\n".join(f"{m.role.capitalize()}: {m.text}" for m in self.content.messages)


@dataclass(frozen=True, eq=False)
class Completion:
    """What a language model wrote.

    Attributes:
        text: the reply as people read it, without the end token.
        prompt_tokens: (P,) tokens the policy was given, from 0; empty for a reply that a person
            wrote.
        tokens: (T,) tokens the policy sampled, the end token included; empty likewise.
        logprobs: (T,) log-probability, in nats, of each token as it was sampled; finite.
        finish: "stop" when the policy ended by itself (terminated), "length" when it was cut
            off (truncated), "human" when a person or another program wrote it.
    """

    text: str
    prompt_tokens: IntArray = field(default_factory=lambda: np.empty(0, np.int32))
    tokens: IntArray = field(default_factory=lambda: np.empty(0, np.int32))
    logprobs: FloatArray = field(default_factory=lambda: np.empty(0, np.float32))
    finish: Literal["stop", "length", "human"] = "human"
    type: Literal["completion"] = "completion"

    @property
    def truncated(self) -> bool:
        return self.finish == "length"

    @property
    def missing_eos(self) -> bool:
        """Whether the reply reached its length limit before the policy ended it."""
        return self.truncated

    @property
    def cut_by_clock(self) -> bool:
        """Never: a reply's limit is of the sampler, and nothing of a world is left beyond it."""
        return False

    @property
    def length(self) -> int:
        """What a reader reads: words."""
        return len(self.text.split())

    def header(self) -> dict[str, Any]:
        return {"type": self.type, "text": self.text, "finish": self.finish}

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "tokens": self.tokens,
            "logprobs": self.logprobs,
        }


@dataclass(frozen=True, eq=False)
class Clip:
    """What an agent did: a stretch of T steps in an environment. All its numbers are finite.

    Attributes:
        observations: (T + 1, ...) what the agent saw, the last one after its last action.
        actions: (T, ...) what it did; integers for discrete actions.
        logprobs: (T,) log-probability, in nats, of each action as it was taken.
        rewards: (T,) the environment's own reward, kept as a gold measure and never trained on
            when people's preferences are.
        terminated: the environment ended the episode (a fall, a goal).
        truncated: the episode or clip was cut off; the future would have gone on.
    """

    environment: str
    observations: FloatArray
    actions: NDArray[Any]
    logprobs: FloatArray
    rewards: FloatArray
    terminated: bool
    truncated: bool
    type: Literal["clip"] = "clip"

    @property
    def missing_eos(self) -> bool:
        """Never: a policy does not end a clip by a token, and to last is no fault."""
        return False

    @property
    def cut_by_clock(self) -> bool:
        """Whether the world would have gone on: the clip ended by a limit of time, not by it."""
        return self.truncated

    @property
    def num_steps(self) -> int:
        return len(self.actions)

    @property
    def length(self) -> int:
        """What a viewer sees: steps."""
        return self.num_steps

    def header(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "environment": self.environment,
            "terminated": self.terminated,
            "truncated": self.truncated,
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "observations": self.observations,
            "actions": self.actions,
            "logprobs": self.logprobs,
            "rewards": self.rewards,
        }


Content = Completion | Clip
ORIGIN = ("model", "weights_version", "seed", "index")
CONTENT_TYPES: dict[str, type[Completion] | type[Clip]] = {"completion": Completion, "clip": Clip}


def content_from(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Content:
    """Rebuild a content from its `header()` and `arrays()`: the store's way back."""
    fields = {k: v for k, v in header.items() if k != "type"}
    kind: Any = CONTENT_TYPES[header["type"]]
    return kind(**fields, **arrays)


@dataclass(frozen=True, eq=False)
class Sample:
    """A completion or a clip, and where it came from.

    Attributes:
        id: hash of the prompt, content, model, seed and index.
        prompt: what it answers.
        model: id of the model in the workspace; None for a person's work.
        weights_version: optimiser step of the weights that acted, within the model's run.
        seed, index: the K samples of one prompt share a seed and differ by index.
        settings: sampling settings it was drawn with.
    """

    id: str
    prompt: Prompt
    content: Content
    model: str | None = None
    weights_version: int = 0
    seed: int = 0
    index: int = 0
    settings: dict[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def of(cls, prompt: Prompt, content: Content, **fields: Any) -> Self:
        """Make a sample named by what it holds."""
        origin = {k: fields.get(k, getattr(cls, k)) for k in ORIGIN}
        return cls(_id_of(prompt, content, origin), prompt, content, **fields)

    @property
    def is_what_it_says(self) -> bool:
        """Whether its id is that of what it holds: else it was changed since it was made."""
        origin = {name: getattr(self, name) for name in ORIGIN}
        return any(
            self.id == _id_of(self.prompt, self.content, origin, shapes=shapes)
            for shapes in (True, False)
        )

    @property
    def place(self) -> str:
        """Where a user finds it: its row, where somebody wrote it there, else id and source."""
        drawn = self.model is not None or len(self.content.logprobs) > 0
        if not drawn and _ROW.search(self.prompt.source):
            return self.prompt.source
        return self.id if self.prompt.source == "unknown" else f"{self.id} ({self.prompt.source})"

    @property
    def prompt_id(self) -> str:
        return self.prompt.id

    @property
    def completion(self) -> Completion:
        """The content of a text sample; a `TypeError` for a clip."""
        if not isinstance(self.content, Completion):
            raise TypeError(f"{self.id} is a {self.content.type}, not a completion")
        return self.content

    @property
    def clip(self) -> Clip:
        """The content of an agent's sample; a `TypeError` for a completion."""
        if not isinstance(self.content, Clip):
            raise TypeError(f"{self.id} is a {self.content.type}, not a clip")
        return self.content

    @property
    def text(self) -> str:
        return self.completion.text


def _id_of(prompt: Prompt, content: Content, origin: dict[str, Any], *, shapes: bool = True) -> str:
    """The id of a sample; of one that an older version made where `shapes` are left out."""
    arrays = [np.ascontiguousarray(array) for array in content.arrays().values()]
    # The shapes too: of the bytes alone nobody could tell where one array ends.
    forms = [[array.shape for array in arrays]] if shapes else []
    raw = b"".join(array.tobytes() for array in arrays)
    return content_id("sample", prompt.id, content.header(), *forms, raw, origin)
