"""Keys and texts from a person: single keys without Enter, longer texts by lines or an editor."""

import os
import select
import shlex
import subprocess
import sys
from collections.abc import Callable
from typing import Protocol, Self

from rich.console import Console

from backflip.data.scratch import scratch_folder
from backflip.errors import BackflipError

ENTER, BACKSPACE, ESCAPE, END = "enter", "backspace", "escape", "end"
_NAMED = {"\r": ENTER, "\n": ENTER, "\x7f": BACKSPACE, "\x08": BACKSPACE, "\x04": END}
_ESCAPE_SECONDS = 0.05


class Keyboard(Protocol):
    """Where a labeller's answers come from; tests put a list of keys here."""

    def key(self) -> str:
        """The next key: its character, or "enter", "backspace", "escape", or "end" of input."""
        ...

    def text(self, initial: str) -> str:
        """A text the person writes, starting from `initial`; empty when nothing was written."""
        ...


class TerminalKeyboard:
    """The keyboard of this process's terminal, in a `with` block that restores it at the end.

    Texts are written in the editor that `VISUAL` or `EDITOR` names; without one, line by line up
    to a line that holds only a full stop.

    Raises:
        BackflipError: standard input is no terminal.
    """

    def __init__(self, console: Console):
        if sys.stdin is None or not sys.stdin.isatty():
            raise BackflipError(
                "labelling needs a terminal to read keys from",
                hint="Run it in a terminal window, without a pipe.",
            )
        self._console = console
        self._restore: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        self._single_keys()
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _single_keys(self) -> None:
        if sys.platform == "win32":
            return
        import termios
        import tty

        before = termios.tcgetattr(sys.stdin.fileno())
        # Keys that were typed ahead stay: fast labellers outrun the screen.
        tty.setcbreak(sys.stdin.fileno(), termios.TCSADRAIN)
        self._restore = lambda: termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)

    def key(self) -> str:
        """Wait for a key; the keys that send a sequence (arrows, F1) count as "escape"."""
        if sys.platform == "win32":
            import msvcrt

            character = msvcrt.getwch()
            if character in "\x00\xe0":
                msvcrt.getwch()
                return ESCAPE
        else:
            character = self._read_character()
        if character == "\x1b":
            return ESCAPE
        return _NAMED.get(character, character) if character else END

    def _read_character(self) -> str:
        fd = sys.stdin.fileno()
        raw = os.read(fd, 1)
        if raw == b"\x1b":
            while select.select([fd], [], [], _ESCAPE_SECONDS)[0] and os.read(fd, 1) not in (
                b"",
                *_SEQUENCE_ENDS,
            ):
                pass
            return "\x1b"
        while raw and len(raw) < _utf8_length(raw[0]):
            more = os.read(fd, 1)
            if not more:
                break
            raw += more
        return raw.decode("utf-8", "replace")

    def text(self, initial: str) -> str:
        """Let the person write; what a terminal or store would not take is left out."""
        self._restore()
        try:
            editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
            written = _edit(editor, initial) if editor else self._read_lines()
        finally:
            self._single_keys()
        lines = written.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
        return lines.strip()

    def _read_lines(self) -> str:
        self._console.print("Write; a line with only a full stop ends it.", markup=False)
        lines: list[str] = []
        while True:
            line = _read_line()
            if line is None or line.rstrip("\r\n") == ".":
                return "\n".join(lines)
            lines.append(line.rstrip("\r\n"))


_SEQUENCE_ENDS = tuple(
    bytes([code]) for code in (*range(ord("A"), ord("N")), *range(ord("P"), ord("[")), ord("~"))
)


def _utf8_length(first: int) -> int:
    """Number of bytes of the character that starts with this byte."""
    if first >= 0xF0:
        return 4
    if first >= 0xE0:
        return 3
    return 2 if first >= 0xC0 else 1


def _read_line() -> str | None:
    """A line from the terminal itself: Python's own buffer would hide keys from `select`."""
    if sys.platform == "win32":
        return sys.stdin.readline() or None
    raw = b""
    while not raw.endswith(b"\n"):
        more = os.read(sys.stdin.fileno(), 4096)
        if not more:
            break
        raw += more
    return raw.decode("utf-8", "replace") if raw else None


def _edit(editor: str, initial: str) -> str:
    """Let a person write in an editor of their own.

    Raises:
        BackflipError: the editor cannot be started or failed.
    """
    with scratch_folder() as folder:
        path = folder / "reply.txt"
        try:
            path.write_text(initial, encoding="utf-8", errors="replace")
            subprocess.run([*shlex.split(editor), str(path)], check=True)  # noqa: S603
            return path.read_text(encoding="utf-8", errors="replace")
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise BackflipError(
                f"the editor {editor!r} did not work: {error}",
                hint="Set EDITOR to a program that edits a file, or unset it.",
            ) from None
