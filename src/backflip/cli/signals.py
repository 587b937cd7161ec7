"""Signals that ask a program to end: all of them end it as Ctrl-C does.

This is imported before all else, so that a program which is still being read ends in words, too: it
imports nothing but a few modules of Python's own.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
STOPPED = "Stopped. What was done is kept: the same command goes on from there."


class Stopped(KeyboardInterrupt):
    """A signal that ends the program, by its number; whatever a Ctrl-C passes, it passes."""

    def __init__(self, number: int = signal.SIGINT):
        self.number = number
        super().__init__()


class Stop:
    """A handler that ends what is under way by a `Stopped`.

    Attributes:
        number: of the last signal that came: libraries take one that comes while they are imported
            for an error of another kind.
        settled: whether the result is told: what comes then changes nothing of it.
        status: with which the program is leaving; None while it is not.
    """

    number: int | None = None
    settled: bool = False
    status: int | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self.status is not None:  # all is written, and something holds up the end
            os._exit(self.status)
        if self.settled:
            return
        self.number = number
        raise Stopped(number)


def settle() -> None:
    """Have signals change nothing of a command whose result is told now."""
    for number in ENDING:
        handler = signal.getsignal(number)
        if isinstance(handler, Stop):
            handler.settled = True


def status_of(stop: BaseException) -> int:
    """The exit status of a program that was stopped, as shells have it."""
    return 128 + int(getattr(stop, "number", signal.SIGINT))


def tell_stopped(*, as_json: bool) -> None:
    """Say that the program was stopped; an `OSError` as of `tell_bare`."""
    tell_bare(STOPPED, f"\n{STOPPED}", as_json=as_json)


def tell_bare(what: str, told: str, *, hint: str | None = None, as_json: bool) -> None:
    """Tell why the program ends, by nothing but Python itself.

    Args:
        what: and `hint`, for programs.
        told: for people, on standard error.
        hint: what to do.
        as_json: whether a program reads standard output.

    Raises:
        OSError: standard output cannot be written.
    """
    if as_json and sys.stdout is not None:
        import json

        error = {"error": {"what": what, "where": None, "hint": hint}}
        sys.stdout.write(json.dumps(error, indent=2) + "\n")
        sys.stdout.flush()
    with suppress(OSError, ValueError):  # nobody is there to be told
        if sys.stderr is not None:
            sys.stderr.write(f"{told}\n")


def take(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Let `handler` take the signals that end a program, but for those that are ignored.

    Outside of the main thread, where Python takes no handlers, it changes nothing.

    Returns:
        the handlers before, for `give_back`.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {
        number: signal.signal(number, handler)
        for number in ENDING
        # nohup, and a shell's "&", have a program ignore some.
        if signal.getsignal(number) not in (signal.SIG_IGN, None)
    }


def give_back(before: dict[int, Any]) -> None:
    """Let those take the signals that did before."""
    for number, old in before.items():
        signal.signal(number, old)


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let `handler` take the signals in a block, as `take` does."""
    before = take(handler)
    try:
        yield
    finally:
        give_back(before)


def ignore(numbers: list[int]) -> None:
    """Let nothing end the interpreter by a signal while it takes itself down."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
