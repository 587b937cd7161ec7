"""Keys as a (pseudo-)terminal sends them: sequences, pastes, wide characters, and its end."""

import io
import os
import pty
import signal
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from backflip.terminal import TerminalKeyboard

pytestmark = pytest.mark.timeout(60)


class Desk:
    """A keyboard in this process, and the side of the terminal on which a person types."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.person, self.side = pty.openpty()
        monkeypatch.setenv("TERM", "xterm")
        for name in ("EDITOR", "VISUAL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(sys, "stdin", os.fdopen(self.side, closefd=False, encoding="utf-8"))
        monkeypatch.setattr(sys, "stdout", os.fdopen(self.side, "w", closefd=False))
        self.keyboard = TerminalKeyboard(Console(file=io.StringIO()))

    def types(self, keys: str | bytes) -> None:
        os.write(self.person, keys.encode() if isinstance(keys, str) else keys)

    def hang_up(self) -> None:
        os.close(self.person)
        self.person = -1

    def later(self, work: Callable[[], object]) -> None:
        threading.Timer(0.2, work).start()

    @property
    def mode(self) -> list:
        return termios.tcgetattr(self.side)

    def shown(self) -> str:
        return os.read(self.person, 65536).decode()


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    made = Desk(monkeypatch)
    yield made
    for end in (made.person, made.side):
        if end >= 0:
            os.close(end)


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        ("gq", ["g", "q"]),
        ("é日😀", ["é", "日", "😀"]),
        ("\r\n", ["enter", "enter"]),
        ("\x7f\x08", ["backspace", "backspace"]),
        ("\x04", ["end"]),
        ("\x1b[A\x1bOPg", ["escape", "escape", "g"]),
        ("\x1b", ["escape"]),
        ("\x1bq", ["escape"]),  # Alt and q: not q
        ("\x1b[99;7q", ["escape"]),  # nobody knows this one
        ("\x1b[200~gqs\r\x04\x1b[201~t", ["paste", "t"]),
        (b"\xff!", ["\udcff", "!"]),
        ("\x01\t", ["escape", "escape"]),
    ],
)
def test_what_is_sent_comes_as_keys(desk: Desk, sent: str, keys: list[str]) -> None:
    before = desk.mode
    with desk.keyboard as keyboard:
        desk.types(sent)
        assert [keyboard.key() for _ in keys] == keys
        # And nothing is left over.
        desk.types("n")
        assert keyboard.key() == "n"
    assert desk.mode == before


def test_a_character_or_a_paste_may_come_in_pieces(desk: Desk) -> None:
    with desk.keyboard as keyboard:
        for piece, rest, key in (
            (b"\xe6\x97", b"\xa5", "日"),
            (b"\x1b[200~g", b"q\x1b[201~", "paste"),
        ):
            desk.types(piece)
            desk.later(lambda rest=rest: desk.types(rest))
            assert keyboard.key() == key


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("It rains.\nOften.\n.\n", "It rains.\nOften."),
        ("日本語\x7f\x7f本\r.\r", "日本"),
        ("ab\x1b[D\x1b[Dx\r.\r", "xab"),
        ("\x1b[200~one\r.\r二\x1b[201~\r.\r", "one\n.\n二"),
        ("\x1b[200~a\x00b\x1b[201~\r.\r", "ab"),
        (b"a\xffb\r.\r", "a\ufffdb"),
        ("no full stop\r\x04", "no full stop"),
        (".\r", ""),
    ],
)
def test_what_is_written_is_taken_line_by_line(desk: Desk, sent: str, text: str) -> None:
    with desk.keyboard as keyboard:
        mode = desk.mode
        desk.types(sent)
        assert keyboard.text("") == text
        assert desk.mode == mode
        # Keys typed ahead are kept, and a paste is told from typing as before.
        desk.types("g\x1b[200~q\x1b[201~")
        assert [keyboard.key(), keyboard.key()] == ["g", "paste"]
        assert desk.shown().endswith("\x1b[?2004h")


def test_keys_typed_ahead_of_the_end_of_a_text_come_after_it(desk: Desk) -> None:
    with desk.keyboard as keyboard:
        desk.types("Rain.\r.\rgt")
        assert keyboard.text("") == "Rain."
        assert [keyboard.key(), keyboard.key()] == ["g", "t"]


def test_control_c_while_writing_interrupts_and_leaves_the_terminal_as_it_was(desk: Desk) -> None:
    before = desk.mode

    def write() -> None:
        with desk.keyboard as keyboard:
            desk.later(lambda: desk.types("half\x03"))
            keyboard.text("")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert desk.mode == before


def test_who_comes_back_after_control_z_finds_single_keys(desk: Desk) -> None:
    shell = desk.mode
    with desk.keyboard as keyboard:
        single = desk.mode
        termios.tcsetattr(desk.side, termios.TCSANOW, shell)
        os.kill(os.getpid(), signal.SIGCONT)
        deadline = time.monotonic() + 10
        while desk.mode != single:
            assert time.monotonic() < deadline
        desk.types("g")
        assert keyboard.key() == "g"
    assert signal.getsignal(signal.SIGCONT) == signal.SIG_DFL


def test_a_terminal_that_is_gone_has_come_to_its_end(desk: Desk) -> None:
    desk.later(desk.hang_up)
    assert [desk.keyboard.key(), desk.keyboard.key()] == ["end", "end"]


def test_what_was_typed_ahead_of_an_editor_answers_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "EDITOR", f'{sys.executable} -c \'import sys; open(sys.argv[1], "a").write("!")\''
    )
    with desk.keyboard as keyboard:
        desk.types("eqq")
        assert keyboard.key() == "e"
        assert keyboard.text("Wet") == "Wet!"
        desk.types("g")
        assert keyboard.key() == "g"
