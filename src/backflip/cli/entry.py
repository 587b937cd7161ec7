"""Where the program starts: it can be stopped, and ends in words, before the rest is imported."""

import atexit
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from backflip.cli.flags import AS_JSON, DEBUG
from backflip.cli.signals import (
    Stop,
    Stopped,
    give_back,
    ignore,
    status_of,
    take,
    tell_bare,
    tell_stopped,
)

_NOT_STARTED = 70
"""The status of a program that failed by itself: EX_SOFTWARE in sysexits.h."""
_HINT = "Install it and what it needs again; --debug shows the traceback."


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; whatever ends it is told in words, without a traceback.

    Args:
        arguments: what stands after the program's name; those of this process when None: it then
            is this process's end, too, and no signal changes the status any more.

    Raises:
        SystemExit: always, with 0; 1 for an error that the user can mend, 2 for a command line that
            cannot be read, 70 for a fault of Backflip's own, 128 and the number of the signal that
            stopped it: 130 after Ctrl-C.
    """
    stop = Stop()
    before = take(stop)
    try:
        if arguments is None:
            # The first to be registered, so the last to be called.
            atexit.register(ignore, list(before))
            _fill_streams()
        code = _outcome(sys.argv[1:] if arguments is None else list(arguments), stop)
        stop.status = code if arguments is None else None
    finally:
        if arguments is not None:
            give_back(before)
    raise SystemExit(code)


def _outcome(given: list[str], stop: Stop) -> int:
    before = given[: given.index("--")] if "--" in given else given
    try:
        from backflip.cli.app import run

        words = [*(word for word in before if word != DEBUG), *given[len(before) :]]
        return run(words, stop, as_json=AS_JSON in before, debug=DEBUG in before)
    except Stopped as stopped:  # while the rest was imported
        stop.settled = True
        with suppress(OSError):
            tell_stopped(as_json=AS_JSON in before)
        return status_of(stopped)
    except ImportError as error:
        stop.settled = True
        return _tell_broken(error, as_json=AS_JSON in before, debug=DEBUG in before)


def _tell_broken(error: ImportError, *, as_json: bool, debug: bool) -> int:
    """Say that what every command needs cannot be imported."""
    if debug:
        raise error
    text = " ".join(ascii(str(error))[1:-1].split())
    what = f"Backflip cannot be started: {type(error).__name__}: {text}"
    with suppress(OSError):
        tell_bare(what, f"Error: {what}\n{_HINT}", hint=_HINT, as_json=as_json)
    return _NOT_STARTED


def _fill_streams() -> None:
    """Put nothing in the place of closed standard streams.

    A file that is opened later would come to stand there, and whatever a library tells would be
    written into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
