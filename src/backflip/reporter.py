"""How a run tells what it is doing: the terminal's, and a silent one for programs."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[..., None]
"""`advance(n)` moves a bar by n; `advance(0, note="...")` changes what stands beside it."""


class Reporter(Protocol):
    """What a run calls while it works."""

    def say(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def bar(self, title: str, total: int, unit: str) -> AbstractContextManager[Advance]:
        """A progress bar with rate and time left."""
        ...


class Silent:
    """Tells nothing, but keeps what was said and warned of."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warnings: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    @contextmanager
    def bar(self, title: str, total: int, unit: str) -> Iterator[Advance]:
        yield lambda number, note="": None
