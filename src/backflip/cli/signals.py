"""Signals that ask a program to end: all of them end it as Ctrl-C does."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Stopped(KeyboardInterrupt):
    """A signal that ends the program, by its number; whatever a Ctrl-C passes, it passes."""

    def __init__(self, number: int = signal.SIGINT):
        self.number = number
        super().__init__()


def status_of(stop: BaseException) -> int:
    """The exit status of a program that was stopped, as shells have it."""
    return 128 + int(getattr(stop, "number", signal.SIGINT))


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let `handler` take the signals that end a program, but for those that are ignored.

    Outside of the main thread, where Python takes no handlers, it changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, handler)
        for number in ENDING
        # nohup, and a shell's "&", have a program ignore some.
        if signal.getsignal(number) not in (signal.SIG_IGN, None)
    }
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def stop(number: int, _frame: FrameType | None) -> None:
    """A handler that ends what is under way.

    Raises:
        Stopped: always.
    """
    raise Stopped(number)
