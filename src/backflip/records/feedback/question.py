"""What a kind of feedback says of itself: how it is asked for, and what people agree on in it."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Value = str | bool | int
"""An answer: "a", "b", "tie" or "both_bad" for a pair; a level; True or False."""
Values = Literal["pair", "ranks", "ordinal", "nominal"]
"""What annotators agree on. "pair": which of two samples, as "a", "b", "tie" or "both_bad";
"ranks": a place for each sample, which is read as an answer to each pair of them; "ordinal": a
level from 1; "nominal": one of some values without an order."""
UNKNOWN = -1


@dataclass(frozen=True)
class Option:
    """One of the answers that a question offers.

    Attributes:
        value: what is sent, and given to `FeedbackBase.from_option`.
        key: a single character that gives this answer; in a terminal none of s, u and q.
        label: what people read.
    """

    value: Value
    key: str
    label: str


@dataclass(frozen=True)
class Question:
    """How a kind is asked for.

    Attributes:
        asks: the words that people read above the samples.
        title: by which a lead chooses the kind.
        samples: how few and how many samples a question may be about.
        takes: which of the replies to a prompt make a question: "each" by itself, disjoint "pairs",
            or "all" of them together.
        usual: how many replies to a prompt are usual.
        options: the answers that are offered. With them any form can be drawn; kinds with forms of
            their own need none.
    """

    asks: str
    title: str
    samples: tuple[int, int] = (1, 1)
    takes: Literal["each", "pairs", "all"] = "each"
    usual: int = 1
    options: tuple[Option, ...] = ()

    @property
    def has_subject(self) -> bool:
        """Whether it is about the first of its samples, which may stand beside another."""
        return self.takes == "each" and self.samples[1] > 1


class Judgement(NamedTuple):
    """What an entry says that others may say as well.

    Attributes:
        samples: that it is about, in the order of their ids.
        value: the answer, meant in that order; for "ranks" the place of each sample, 1 the best.
        context: what else makes it the same question, such as the number of levels.
        first: which sample of a pair was shown first, 0 or 1; -1 where nobody knows.
    """

    samples: tuple[str, ...]
    value: Any
    context: tuple[Any, ...] = ()
    first: int = UNKNOWN
