"""The labeller at a real (pseudo-)terminal: keys, typed texts, editors, and Ctrl-C."""

import io
import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console
from terminal_desk import ME, PAIR, put

from backflip.errors import BackflipError
from backflip.terminal import TerminalKeyboard, label_terminal
from backflip.workspace import Workspace

CHILD = """
import sys
from backflip.workspace import Workspace
from backflip.terminal import label_terminal
with Workspace.open(sys.argv[1]) as ws:
    print("count", label_terminal(ws, "mia"))
"""


class Terminal:
    """A child process at a pseudo-terminal."""

    def __init__(self, root: Path, **environment: str):
        import pty

        self.master, slave = pty.openpty()
        clean = {k: v for k, v in os.environ.items() if k not in ("EDITOR", "VISUAL")}
        self.child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(root)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=clean | {"TERM": "xterm", "COLUMNS": "100"} | environment,
            start_new_session=True,
        )
        os.close(slave)
        self.seen = ""

    def expect(self, text: str) -> None:
        """Read until this stands on the screen, after what was expected before."""
        deadline = time.monotonic() + 30
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} never came: {self.seen!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.master, 4096).decode()
                except OSError as error:
                    raise AssertionError(f"{text!r} never came: {self.seen!r}") from error
        self.seen = self.seen.split(text, 1)[1]

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def close(self) -> int:
        try:
            return self.child.wait(30)
        finally:
            if self.child.poll() is None:
                self.child.kill()
                self.child.wait()
            os.close(self.master)


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a thing of Unix")
def test_a_real_terminal_from_first_key_to_last(ws: Workspace) -> None:
    put(ws, "good_bad", PAIR[:1])
    put(ws, "correction", PAIR[1:])
    put(ws, "rating", PAIR[:1])
    terminal = Terminal(ws.root)
    try:
        terminal.expect("q quit")
        terminal.press("\x1b[A")  # an arrow is no answer, whatever letters it sends
        terminal.expect("does nothing here")
        terminal.press("é")
        terminal.expect("does nothing here")
        terminal.press("g")
        terminal.expect("Saved.")
        terminal.expect("q quit")
        terminal.press("e")
        terminal.expect("ends it.")
        terminal.press("Né pas, look it up.\nIt helps.\n.\n")
        terminal.expect("Saved.")
        terminal.expect("q quit")
        terminal.press("4")
        terminal.expect("any other key quits")
        terminal.press("q")
        terminal.expect("3 answers given in this sitting, 3 in all.")
        terminal.expect("count 3")
    finally:
        code = terminal.close()
    assert code == 0
    thumb, correction, rating = ws.journal.active()
    assert (thumb.good, rating.level) == (True, 4)
    written = ws.samples.get([correction.corrected])[correction.corrected]
    assert written.text == "Né pas, look it up.\nIt helps."


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a thing of Unix")
def test_an_editor_gets_the_reply_and_gives_the_edit(ws: Workspace, tmp_path: Path) -> None:
    put(ws, "correction", PAIR[:1])
    editor = tmp_path / "my editor.py"
    editor.write_text(
        "import pathlib, sys\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "path.write_text(path.read_text() + ' It is wet.')\n"
    )
    terminal = Terminal(ws.root, EDITOR=f"{sys.executable} '{editor}'")
    try:
        terminal.expect("q quit")
        terminal.press("e")
        terminal.expect("any other key quits")
        terminal.press("q")
        terminal.expect("count 1")
    finally:
        assert terminal.close() == 0
    (entry,) = ws.journal.active()
    written = ws.samples.get([entry.corrected])[entry.corrected]
    assert written.text == "Water from clouds. It is wet."


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a thing of Unix")
def test_control_c_in_a_terminal_leaves_it_as_it_was(ws: Workspace) -> None:
    import termios

    put(ws, "good_bad", PAIR[:1])
    terminal = Terminal(ws.root)
    before = termios.tcgetattr(terminal.master)
    try:
        terminal.expect("q quit")
        assert termios.tcgetattr(terminal.master) != before
        # The child is no foreground job of this terminal, so the signal is sent by hand.
        terminal.child.send_signal(2)
        terminal.expect("Stopped.")
        terminal.expect("count 0")
        assert termios.tcgetattr(terminal.master) == before
    finally:
        assert terminal.close() == 0


def test_without_a_terminal_there_is_a_clear_error(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("g"))
    with pytest.raises(BackflipError, match="needs a terminal"):
        label_terminal(ws, ME, Console(file=io.StringIO()))
    with pytest.raises(BackflipError, match="needs a terminal"):
        TerminalKeyboard(Console(file=io.StringIO()))
