"""Results for people and programs, and the reporter of a run."""

import io
import json
import math
import os
import pty
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout, suppress

import pytest

from backflip.cli.output import TerminalReporter, print_json, show, table
from backflip.cli.results import reward_lines
from backflip.records.figures import BenchReport
from backflip.records.results import RewardResult


def test_json_is_json_whatever_was_measured() -> None:
    out = io.StringIO()
    with redirect_stdout(out):
        print_json({"loss": math.nan, "parts": [math.inf, 1.5], 3: (-math.inf,), "bare": "\ud800"})
    found = json.loads(out.getvalue(), parse_constant=lambda name: pytest.fail(name))
    assert found == {"loss": None, "parts": [None, 1.5], "3": [None], "bare": "\ud800"}


def test_show_gives_people_or_programs_their_own() -> None:
    out = io.StringIO()
    with redirect_stdout(out):
        show({"a": 1}, True, lambda: pytest.fail("nobody reads this"))
    assert json.loads(out.getvalue()) == {"a": 1}
    out = io.StringIO()
    with redirect_stdout(out):
        show({"a": 1}, False, lambda: "bad \x1b[2J name")
    assert out.getvalue() == "bad \\x1b[2J name\n"


def test_table_is_aligned() -> None:
    rows = [{"name": "a", "share": 0.123456, "of": None}, {"name": "long", "share": 1, "of": 2}]
    assert table(rows).splitlines() == [
        "name  share   of",
        "a     0.1235  -",
        "long  1       2",
    ]
    assert table([]) == "(none)"


def report_some(reporter: TerminalReporter) -> None:
    reporter.say("[bold]said[/bold] \x1b[31m")
    reporter.warn("a long warning " * 20)
    with reporter.bar("Sampling", 30, "samples") as advance:
        for _ in range(3):
            advance(10, note="loss 0.5")


def test_a_pipe_gets_lines_and_no_bars() -> None:
    err = io.StringIO()
    with redirect_stderr(err):
        report_some(TerminalReporter())
    said, warned, sampled = err.getvalue().splitlines()
    assert said == "[bold]said[/bold] \\x1b[31m"
    assert warned.count("a long warning") == 20
    assert sampled.startswith("Sampling ")
    assert sampled.endswith(" loss 0.5")
    assert " 30 samples, " in sampled


def test_what_was_cut_off_is_not_told_as_done() -> None:
    err = io.StringIO()
    with (
        redirect_stderr(err),
        pytest.raises(KeyboardInterrupt),
        TerminalReporter().bar("Sampling", 30, "samples"),
    ):
        raise KeyboardInterrupt
    assert err.getvalue() == ""


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    ours, theirs = pty.openpty()
    shown: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # Linux's way of saying that the other side has closed
            while raw := os.read(ours, 4096):
                shown.append(raw)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        report_some(TerminalReporter())
    reader.join()
    os.close(ours)
    screen = b"".join(shown).decode()
    assert "━" in screen
    assert "\x1b[31m" not in screen.split("Warning")[0], "what is said cannot colour the terminal"
    assert " 30 samples, " in screen


def test_a_benchmark_is_told_by_subset_with_what_was_left_out() -> None:
    def share(value: float, count: int) -> dict[str, float]:
        return {"value": value, "low": 0.125, "high": 0.875, "count": count}

    parts = {f"by_{part}": {} for part in ("strength", "length", "annotator", "kind")}
    scores = {
        "accuracy": {"overall": share(0.75, 8), **parts},
        "calibration": None,
        "reliabilities": {},
        "entries": 8,
        "rejected_rows": 1,
        "subsets": {"chat": share(1.0, 2), "maths": share(0.6667, 6)},
        "reasons": ["b.jsonl:9: no field chosen"],
    }
    trained = RewardResult(rewards={"overall": ("model-1",)}, snapshot="s", reports={})
    told = reward_lines(trained, {"b.jsonl": BenchReport.model_validate(scores)})
    rows = [line.split() for line in told.splitlines()]
    assert ["0.75", "0.125", "0.875", "8", "-", "8", "1"] in rows
    assert ["chat", "1", "0.125", "0.875", "2"] in rows
    assert ["maths", "0.6667", "0.125", "0.875", "6"] in rows
    assert "left out: b.jsonl:9: no field chosen" in told
