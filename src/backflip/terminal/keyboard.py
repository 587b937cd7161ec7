"""Keys and texts from a person: single keys without Enter, longer texts by lines or an editor.

prompt_toolkit makes keys of what a terminal sends, and lets a person write a line. While single
keys are waited for, the terminal still turns Ctrl-C and Ctrl-Z into signals, so that they reach a
program that is busy too.
"""

import asyncio
import os
import select
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console

from backflip.data.scratch import scratch_folder
from backflip.errors import BackflipError

if TYPE_CHECKING:
    from prompt_toolkit.input import Input
    from prompt_toolkit.key_binding import KeyPress
    from prompt_toolkit.output import Output

ENTER, BACKSPACE, ESCAPE, END, PASTE = "enter", "backspace", "escape", "end", "paste"
# As prompt_toolkit calls them.
_NAMED = {"c-m": ENTER, "c-j": ENTER, "c-h": BACKSPACE, "c-d": END, "<bracketed-paste>": PASTE}
_ESCAPE_SECONDS = 0.05


class Keyboard(Protocol):
    """Where a labeller's answers come from; tests put a list of keys here."""

    def key(self) -> str:
        """The next key: its character, or "enter", "backspace", "escape", "paste" or "end"."""
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
        from prompt_toolkit.input import create_input
        from prompt_toolkit.output import create_output

        self._console = console
        self._input = create_input(sys.stdin)
        self._output = create_output(sys.stdout)
        # The cursor's place is not asked for: an answer that comes late would count as a key.
        vars(self._output).update(enable_cpr=False)
        self._mode = ExitStack()

    def __enter__(self) -> Self:
        self._mode.enter_context(_single_keys(self._input, self._output))
        return self

    def __exit__(self, *_: object) -> None:
        self._mode.close()

    def key(self) -> str:
        """Wait for a key.

        Keys that send a sequence (arrows, F1, Alt with a letter) count as "escape", and what is
        pasted is one "paste" whatever it holds: neither is an answer. A terminal that is gone has
        come to its "end".
        """
        from prompt_toolkit.input.typeahead import get_typeahead, store_typeahead

        presses = get_typeahead(self._input) or asyncio.run(_next(self._input))
        if not presses:
            return END
        first = str(getattr(presses[0].key, "value", presses[0].key))
        if first == "c-c":  # where the terminal makes no signal of it
            raise KeyboardInterrupt
        if first != ESCAPE:
            store_typeahead(self._input, presses[1:])
        return _NAMED.get(first, first if len(first) == 1 else ESCAPE)

    def text(self, initial: str) -> str:
        """Let the person write; what a terminal or store would not take is left out."""
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
        written = self._edited(editor, initial) if editor else self._read_lines()
        # Bytes that are no text come as halves of surrogate pairs.
        written = written.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        lines = written.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
        return lines.strip()

    def _edited(self, editor: str, initial: str) -> str:
        from prompt_toolkit.input.typeahead import clear_typeahead

        clear_typeahead(self._input)  # it was meant for the editor, not as answers after it
        self._mode.close()
        try:
            return _edit(editor, initial)
        finally:
            self.__enter__()

    def _read_lines(self) -> str:
        from prompt_toolkit import PromptSession

        self._console.print("Write; a line with only a full stop ends it.", markup=False)
        session = PromptSession[str](input=self._input, output=self._output, enable_suspend=True)
        lines: list[str] = []
        try:
            while (line := session.prompt("")) != ".":
                lines.append(line)
        except EOFError:
            pass
        finally:
            self._output.enable_bracketed_paste()  # which the session has ended
            self._output.flush()
        return "\n".join(lines)


@contextmanager
def _single_keys(source: "Input", output: "Output") -> Iterator[None]:
    """Inside the block keys come one by one and unseen, and a paste is told from typing."""
    with ExitStack() as stack:
        if sys.platform == "win32":
            stack.enter_context(source.raw_mode())
        else:
            stack.enter_context(_one_by_one(source.fileno()))
        output.enable_bracketed_paste()
        output.flush()
        try:
            yield
        finally:
            with suppress(OSError):  # a terminal that is gone needs nothing any more
                output.disable_bracketed_paste()
                output.flush()


@contextmanager
def _one_by_one(terminal: int) -> Iterator[None]:
    if sys.platform == "win32":
        raise NotImplementedError
    import termios
    import tty

    def begin(*_: object) -> None:
        # Keys that were typed ahead stay: fast labellers outrun the screen.
        tty.setcbreak(terminal, termios.TCSADRAIN)

    before = termios.tcgetattr(terminal)
    begin()
    main = threading.current_thread() is threading.main_thread()
    # Whoever stopped the program by Ctrl-Z and goes on finds the terminal as the shell had it.
    handler = signal.signal(signal.SIGCONT, begin) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGCONT, handler)
        with suppress(termios.error):
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)


async def _next(source: "Input") -> "list[KeyPress]":
    """The next keys, as many as came together; none at the end.

    What comes close behind a lone Escape is the rest of a sequence that nobody knows, and no keys.
    """
    ready = asyncio.Event()

    async def arrives(seconds: float | None) -> bool:
        try:
            await asyncio.wait_for(ready.wait(), seconds)
        except TimeoutError:
            return False
        ready.clear()
        return True

    presses: list[KeyPress] = []
    with source.attach(ready.set):
        patience: float | None = None
        while not presses and not _is_over(source):
            whole = not await arrives(patience)
            presses += source.flush_keys() if whole else source.read_keys()
            patience = None if whole else _ESCAPE_SECONDS
        if presses and presses[0].key == ESCAPE:
            while not _is_over(source) and await arrives(_ESCAPE_SECONDS):
                source.read_keys()
            source.flush_keys()
    return presses


def _is_over(source: "Input") -> bool:
    if source.closed or sys.platform == "win32":
        return source.closed
    poll = select.poll()
    poll.register(source.fileno(), 0)  # which tells of a terminal that hung up, and of nothing else
    return bool(poll.poll(0))


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
