"""The last line of defence: what nobody foresaw is told in a sentence and kept in a log."""

import os
import platform
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path

from backflip import __version__
from backflip.cli.output import noted_workspace, print_json, tell_error
from backflip.errors import without_passwords
from backflip.plain_text import clean_text

STATUS = 70
"""Of a program that failed by a fault of its own: EX_SOFTWARE in sysexits.h."""
REPORT = "https://backflip.readthedocs.io/faults"
_SHOWN = 300


def tell_fault(
    error: BaseException, arguments: list[str], *, as_json: bool, debug: bool = False
) -> int:
    """Tell an unforeseen error in a sentence, with its traceback in a log; returns the status.

    Args:
        error: what was raised.
        arguments: the command line, which the log has without passwords.
        as_json: print it as one JSON document, too.
        debug: print the traceback, too.
    """
    trace = without_passwords(_trace_of(error))
    log = _keep(_report(trace, arguments))
    kept = f"The log is {log}. " if log else "No log could be written. "
    hint = f"{kept}{REPORT} says how to report it; --debug shows the traceback."
    what = f"Backflip failed unexpectedly: {_in_short(error)}"
    if as_json:
        told = {"what": what, "where": None, "hint": hint, "log": str(log) if log else None}
        print_json({"error": told})
    if debug:
        tell_error(trace)
    tell_error(f"Error: {what}\n{hint}", red=True)
    return STATUS


def _in_short(error: BaseException) -> str:
    if isinstance(error, MemoryError) and not error.args:
        return "MemoryError: there is too little memory"
    try:
        text = " ".join(str(error).split())
    except KeyboardInterrupt:
        raise
    except BaseException:  # it is told all the same
        text = ""
    name = type(error).__name__
    told = without_passwords(f"{name}: {text}") if text else name
    return clean_text(told if len(told) <= _SHOWN else f"{told[:_SHOWN]}...")


def _trace_of(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except KeyboardInterrupt:
        raise
    except BaseException as again:  # whatever goes wrong with it, the error itself is told
        return f"{type(error).__name__}; its traceback failed by {type(again).__name__}"


def _report(trace: str, arguments: list[str]) -> str:
    given = " ".join(without_passwords(ascii(each)) for each in arguments)
    about = (
        f"Backflip {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"{time.strftime('%Y-%m-%d %H:%M:%S %z')}\nbackflip {given}\n\n"
    )
    return about + trace


def _keep(report: str) -> Path | None:
    """Write a log where it is most likely to be found; None where nothing can be written."""
    name = f"fault-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    for folder in _folders():
        with suppress(Exception):
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / name
            path.write_bytes(report.encode("utf-8", "backslashreplace"))
            path.chmod(0o600)  # it may hold names and texts
            return path.absolute()
    return None


def _folders() -> list[Path]:
    folders: list[Path] = []
    workspace = noted_workspace()
    with suppress(OSError):
        if workspace is not None and (workspace / "workspace.json").is_file():
            folders.append(workspace / "logs")
    with suppress(RuntimeError):  # nobody's home
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        folders.append(Path(state) / "backflip")
    with suppress(OSError):
        folders.append(Path(tempfile.gettempdir()))
    return folders


def check_surroundings(arguments: list[str]) -> tuple[str, str] | None:
    """What keeps any command from being carried out, and what to do about it; None: nothing."""
    named = os.environ.get("BACKFLIP_WORKSPACE", "")
    for place, text in (*enumerate(arguments, 1), ("BACKFLIP_WORKSPACE", named)):
        try:
            text.encode()
        except UnicodeEncodeError:
            word = f"argument {place}" if isinstance(place, int) else f"the variable {place}"
            return f"{word} is not UTF-8 text: {text[:80]!a}", (
                "Rename the file, or set the locale of the terminal to UTF-8."
            )
    try:
        os.getcwd()  # noqa: PTH109  Path.cwd does the same, and its error is not told apart
    except OSError:
        return "the folder that this was started in is gone", "Change to one that is there."
    return None
