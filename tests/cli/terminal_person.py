"""The installed program in processes of its own, and a person at a terminal who presses keys."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROGRAM = str(Path(sys.executable).parent / "backflip")
PATIENCE = 300.0
"""Seconds after which a test gives up on a process that says nothing: for a machine that hangs."""
# Not a fork of this process, which has threads: a program of its own takes the terminal as the one
# whose Ctrl-C reaches it, and becomes the command.
SEAT = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def environment() -> dict[str, str]:
    return {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40", "OMP_NUM_THREADS": "1"}


class Process:
    """A command whose standard error is read while it works."""

    def __init__(self, *arguments: str, errors: Path):
        self._errors = errors
        with errors.open("w") as file:
            self._process = subprocess.Popen(
                [PROGRAM, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=environment(),
            )

    @property
    def said(self) -> str:
        """Standard error so far."""
        return self._errors.read_text()

    def wait_for(self, text: str) -> None:
        """Until it has said a text."""
        end = time.monotonic() + PATIENCE
        while text not in self.said:
            assert self._process.poll() is None, f"ended early: {self.said}"
            assert time.monotonic() < end, f"never said {text!r}: {self.said}"
            time.sleep(0.05)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, str]:
        """Its status and standard output."""
        try:
            out, _ = self._process.communicate(timeout=PATIENCE)
        finally:
            self._process.kill()
        return self._process.returncode, out


def at_terminal(
    *arguments: str, keys: Callable[[str, int], str], until: str = "q quit|other key quits"
) -> tuple[int, str]:
    """Run a command in a terminal and answer each of its questions.

    Args:
        keys: what is pressed at question i, given what was shown since the one before.
        until: a pattern of what ends each question.

    Returns:
        the status and all that was shown.
    """
    terminal, side = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", SEAT, PROGRAM, *arguments],
        stdin=side,
        stdout=side,
        stderr=side,
        env=environment(),
        start_new_session=True,
    )
    os.close(side)
    shown, asked = "", 0
    try:
        while select.select([terminal], [], [], PATIENCE)[0]:
            try:
                raw = os.read(terminal, 65536)
            except OSError:  # Linux's way of saying that the other side has closed
                break
            if not raw:
                break
            shown += raw.decode("utf-8", "replace")
            while len(questions := re.split(until, shown)) - 1 > asked:
                os.write(terminal, keys(questions[asked], asked).encode())
                asked += 1
    finally:
        os.close(terminal)  # hangs up: a child that waits for a key ends
        status = child.wait(PATIENCE)
    return status, shown
