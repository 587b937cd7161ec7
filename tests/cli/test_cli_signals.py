"""Signals at any moment: while the program is read, while a library loads, while it leaves."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_desk import backflip
from rich.console import Console

from backflip.cli.models import _ask
from backflip.cli.signals import settle
from backflip.errors import BackflipError
from backflip.terminal import TerminalKeyboard
from backflip.workspace import Workspace

START = "from backflip.cli import main; main()"
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
KILL = "import os, signal; os.kill(os.getpid(), {number})"
SWALLOWED = (
    "try:\n    {kill}\nexcept BaseException:\n    raise ModuleNotFoundError('PreTrainedModel')"
)


def started(
    *words: str, folder: Path, before: str = "pass", **modules: str
) -> subprocess.CompletedProcess[str]:
    """The program in a process where some modules are others."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", f"{before}\n{START}", *words],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path, "XDG_STATE_HOME": str(folder)},
    )


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("module", ["typer", "sqlalchemy"])
def test_a_program_that_is_still_read_is_stopped_in_words(
    module: str, number: signal.Signals, tmp_path: Path
) -> None:
    kill = KILL.format(number=int(number))
    for text in (kill, SWALLOWED.format(kill=kill)) if module == "sqlalchemy" else (kill,):
        ended = started("models", "--json", folder=tmp_path, **{module: text})
        assert ended.returncode == 128 + number, ended.stderr
        assert "the same command goes on" in json.loads(ended.stdout)["error"]["what"]
        assert ended.stderr.strip().startswith("Stopped.")
        assert "Traceback" not in ended.stderr
        assert not list(tmp_path.glob("**/*.log"))


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("moment", ["the first at the end", "the last at the end", "teardown"])
def test_a_signal_while_the_program_leaves_changes_nothing(
    number: signal.Signals, moment: str, tmp_path: Path
) -> None:
    kill = KILL.format(number=int(number))
    early = f"import atexit\natexit.register(lambda: exec('{kill}'))"
    late = (
        "class Late:\n    def __del__(self, os=__import__('os')):\n"
        f"        os.kill(os.getpid(), {int(number)})\nsys = __import__('sys'); sys.late = Late()"
    )
    real = "import sys\nsys.path.pop(0)\ndel sys.modules['typer']\nimport typer"
    if moment == "the first at the end":  # as it was registered after all else
        ended = started("--version", folder=tmp_path, typer=f"{early}\n{real}")
    else:
        before = early if moment == "the last at the end" else late
        ended = started("--version", folder=tmp_path, before=before)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("backflip ")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_after_the_result_is_told_changes_nothing(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Workspace.create(tmp_path).close()

    def settling() -> None:
        settle()
        signal.raise_signal(number)

    before = signal.signal(number, signal.default_int_handler)
    monkeypatch.setattr("backflip.cli.output.settle", settling)
    try:
        told = backflip("feedback", "stats", "-w", tmp_path, "--json")
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert (told.code, told.err, told.json["active"]) == (0, "", 0)


def test_errors_are_told_though_nothing_can_be_imported(tmp_path: Path) -> None:
    """Whatever installation is broken: one sentence, and no traceback."""
    broken = "raise ImportError('libopenblas is gone')"
    names = ("numpy", "sqlalchemy", "torch", "jinja2", "httpx", "transformers")
    for words, code in (
        (["config", "show", "nowhere.toml"], 70),
        (["models", "-w", "gone"], 70),
        (["models", "--json"], 70),
        (["rnu"], 2),
        (["--version"], 0),
    ):
        ended = started(*words, folder=tmp_path, **dict.fromkeys(names, broken))
        assert ended.returncode == code, ended.stderr
        assert "Traceback" not in ended.stderr
        assert ("libopenblas is gone" in ended.stderr) is (code == 70)


def test_a_program_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    ended = started("models", folder=tmp_path, typer="import nowhere")
    assert (ended.returncode, ended.stdout) == (70, "")
    assert ended.stderr.startswith("Error: Backflip cannot be started: ModuleNotFoundError: No mod")
    assert "Traceback" not in ended.stderr
    machine = started("models", "--json", folder=tmp_path, typer="import nowhere")
    assert "'nowhere'" in json.loads(machine.stdout)["error"]["what"]
    shown = started("models", "--debug", folder=tmp_path, typer="import nowhere")
    assert "Traceback" in shown.stderr


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_streams_are_no_fault(closed: tuple[int, ...], tmp_path: Path) -> None:
    """What cannot be told is told where it can be; nothing else takes the stream's place."""
    seen = "import os; os.open('/', os.O_RDONLY); print(*map(os.readlink, PATHS), file=FILE)"
    paths, file = [f"/proc/self/fd/{number}" for number in closed], tmp_path / "seen"
    seen = seen.replace("PATHS", repr(paths)).replace("FILE", f"open({str(file)!r}, 'w')")
    program = f"import atexit; atexit.register(lambda: exec({seen!r})); {START}"
    ended = subprocess.run(
        [sys.executable, "-c", program, "--version"],
        capture_output=True,
        text=True,
        preexec_fn=lambda: [os.close(number) for number in closed],
    )
    assert ended.returncode == (1 if 1 in closed else 0), ended.stderr
    told = "Error: standard output cannot be written: it is closed\n"
    assert ended.stderr == (told if closed == (1,) else "")
    assert set(file.read_text().split()) == {os.devnull}


def test_nobody_asks_a_stream_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert _ask() == ""
    with pytest.raises(BackflipError, match="needs a terminal"):
        TerminalKeyboard(Console())
