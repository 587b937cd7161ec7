"""What is too long, and what becomes of it: refused, dropped, or cut to its newest turns."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from backflip.data.chat import Chat
from backflip.errors import BackflipError, ModelError, SettingsError
from backflip.records import Completion, Dialogue, Message, Prompt, Sample
from backflip.records.samples import IntArray

TooLong = Literal["refuse", "drop", "cut"]
Item = TypeVar("Item", Prompt, Sample)


@dataclass(frozen=True, eq=False)
class Limit:
    """The most tokens that a prompt, or a prompt with its reply, may have.

    Attributes:
        chat: counts them.
        most: so many fit.
        why: what sets the limit, in words.
        mend: what to do, given the tokens of the longest that is to fit.
    """

    chat: Chat
    most: int
    why: str
    mend: Callable[[int], str]


@dataclass(frozen=True, eq=False)
class Excess(Generic[Item]):
    """A prompt or sample that does not fit.

    Attributes:
        item: the prompt or sample.
        tokens: of it, as the first limit that it breaks counts them.
        broken: each limit that it breaks, with its tokens as that one counts them.
    """

    item: Item
    broken: tuple[tuple[Limit, int], ...]

    @property
    def tokens(self) -> int:
        return self.broken[0][1]

    def __str__(self) -> str:
        return f"has {self.tokens} tokens; {'; '.join(limit.why for limit, _ in self.broken)}"


@dataclass(eq=False)
class Fitted(Generic[Item]):
    """Prompts or samples, parted by whether they fit.

    Attributes:
        kept: those that fit, in their order, cut ones among them.
        dropped, refused: those that do not.
        num_cut: of those that are kept, so many were cut.
        failed: those that could not be read at all, each with the error.
        longest, total: tokens, of the longest and of all, as they came.
    """

    kept: list[Item] = field(default_factory=list)
    dropped: list[Excess[Item]] = field(default_factory=list)
    refused: list[Excess[Item]] = field(default_factory=list)
    failed: list[tuple[Item, BackflipError]] = field(default_factory=list)
    num_cut: int = 0
    longest: int = 0
    total: int = 0

    def require(self) -> None:
        """Raise the error of the first that could not be read, or that is refused, by its place.

        Raises:
            SettingsError: one is refused.
            BackflipError: one could not be read.
        """
        for item, error in self.failed:
            raise named(error, item)
        for excess in self.refused:
            limit, tokens = excess.broken[0]
            hint = limit.mend(tokens)
            raise SettingsError(
                str(excess), where=excess.item.place, hint=f"{hint[0].upper()}{hint[1:]}."
            )

    def facts(self) -> dict[str, int]:
        """The figures."""
        return {
            "number": len(self.kept),
            "longest": self.longest,
            "tokens": self.total,
            "dropped": len(self.dropped),
            "cut": self.num_cut,
        }


def fit_prompts(
    prompts: Iterable[Prompt], limits: Sequence[Limit], too_long: TooLong
) -> Fitted[Prompt]:
    """Part prompts by whether they are within all limits.

    A prompt that is cut stays on its side of the held-out split; should it become the same as
    another one, both are held out if either is.
    """
    fitted = _fit(prompts, limits, too_long, _prompt_tokens, shorter_prompts)
    heldout = {prompt.id for prompt in fitted.kept if prompt.split == "heldout"}
    unlike: dict[str, Prompt] = {}
    for prompt in fitted.kept:
        side = "heldout" if prompt.id in heldout else "train"
        unlike.setdefault(prompt.id, prompt.model_copy(update={"split": side}))
    fitted.kept = list(unlike.values())
    return fitted


def fit_samples(
    samples: Iterable[Sample], limits: Sequence[Limit], too_long: TooLong
) -> Fitted[Sample]:
    """Part samples by whether prompt and reply together are within all limits."""
    return _fit(samples, limits, too_long, _sample_tokens, _shorter_samples)


def _fit(
    items: Iterable[Item],
    limits: Sequence[Limit],
    too_long: TooLong,
    count: Callable[[Any, Item], int],
    shorter: Callable[[Item], Iterator[Item]],
) -> Fitted[Item]:
    def broken(item: Item) -> list[tuple[Limit, int]]:
        counts: dict[int, int] = {}
        for limit in limits:
            if id(limit.chat) not in counts:
                counts[id(limit.chat)] = count(limit.chat, item)
        sizes.append(next(iter(counts.values()), 0))
        each = [(limit, counts[id(limit.chat)]) for limit in limits]
        return [(limit, tokens) for limit, tokens in each if tokens > limit.most]

    fitted: Fitted[Item] = Fitted()
    for item in items:
        sizes: list[int] = []
        try:
            excess = broken(item)
            short = None
            if excess and too_long == "cut":
                short = next((s for s in shorter(item) if not broken(s)), None)
        except BackflipError as error:
            fitted.failed.append((item, error))
            continue
        fitted.longest = max(fitted.longest, sizes[0])
        fitted.total += sizes[0]
        if not excess:
            fitted.kept.append(item)
        elif too_long == "drop":
            fitted.dropped.append(Excess(item, tuple(excess)))
        elif short is not None:
            fitted.kept.append(short)
            fitted.num_cut += 1
        else:
            fitted.refused.append(Excess(item, tuple(excess)))
    return fitted


def shorter_prompts(prompt: Prompt) -> Iterator[Prompt]:
    """The prompt with ever more of its oldest turns left out, the longest first.

    System turns at the beginning stay. What is left begins with a turn of the user, as templates
    want it, so that a call of a tool never loses its answer; the last turn of the user, and all
    after it, stay always.
    """
    dialogue = prompt.content
    if not isinstance(dialogue, Dialogue):
        return
    turns = dialogue.messages
    opening = next((i for i, turn in enumerate(turns) if turn.role != "system"), len(turns))
    for start in range(opening + 1, len(turns)):
        if turns[start].role == "user":
            messages: tuple[Message, ...] = (*turns[:opening], *turns[start:])
            content = dialogue.model_copy(update={"messages": messages})
            yield Prompt(content=content, source=prompt.source, split=prompt.split)


def _shorter_samples(sample: Sample) -> Iterator[Sample]:
    for prompt in shorter_prompts(sample.prompt):
        yield Sample.of(prompt, Completion(text=sample.text, finish=sample.completion.finish))


def _prompt_tokens(chat: Chat, prompt: Prompt) -> int:
    return len(chat.encode_prompt(prompt))


def _sample_tokens(chat: Chat, sample: Sample) -> int:
    return sum(map(len, chat.encode_sample(sample)))


def encode_samples(
    chat: Chat, samples: Iterable[Sample], positions: int | None = None
) -> list[tuple[IntArray, IntArray]]:
    """Samples as `Chat.encode_sample` gives each, for a model that reads so many positions.

    Raises:
        ModelError: the template cannot read one of them, or it is longer than that; it is named.
    """
    encoded: list[tuple[IntArray, IntArray]] = []
    for sample in samples:
        try:
            prompt, reply = chat.encode_sample(sample)
        except BackflipError as error:
            raise named(error, sample) from None
        if not len(prompt):
            raise ModelError(
                "has no tokens, so nothing predicts the first of its reply", where=sample.place
            )
        length = len(prompt) + len(reply)
        if positions is not None and length > positions:
            raise ModelError(
                f"has {length} tokens; the model reads at most {positions}",
                where=sample.place,
                hint='reward.too_long = "drop" leaves out feedback on what is longer.',
            )
        encoded.append((prompt, reply))
    return encoded


def named(error: BackflipError, item: Prompt | Sample) -> BackflipError:
    """The same error, at the place where a user finds the prompt or sample that it is about."""
    return type(error)(error.what, where=item.place, hint=error.hint)
