"""What commands share: their common options, results for people or programs, progress bars."""

import errno
import io
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

import typer

from backflip.cli.flags import AS_JSON
from backflip.cli.signals import settle
from backflip.errors import BackflipError
from backflip.plain_text import clean_text

DEFAULT_WORKSPACE = Path("workspace")
_NOTED: ContextVar[Path | None] = ContextVar("workspace", default=None)


def note_workspace(folder: Path | None) -> Path | None:
    """Keep in mind which workspace a command is about, for the log of a fault; returns it."""
    _NOTED.set(folder)
    return folder


def noted_workspace() -> Path | None:
    """The workspace that the command is about, as far as it is known yet."""
    return _NOTED.get()


WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace",
        "-w",
        envvar="BACKFLIP_WORKSPACE",
        callback=note_workspace,
        help="Folder with the database and files.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option(AS_JSON, help="Print the result, or the error, as one JSON document.")
]
RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A TOML file, or the name of a shipped recipe.")
]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings laid over the recipe, as in loop.rounds=3."),
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="A postgresql:// address, when the workspace is made; SQLite without it. Kept in "
        "the workspace.",
    ),
]


def show(result: Any, as_json: bool, lines: Callable[[], str]) -> None:
    """Print a result: as one JSON document, or as `lines` for people."""
    if as_json:
        print_json(result)
    else:
        # Names and texts come from files and models: a terminal must not obey them.
        typer.echo(clean_text(lines()))
    settle()


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print a value as JSON that every program reads: NaN and infinities become null."""
    typer.echo(json.dumps(_finite(value), indent=indent, default=str))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def fail(what: str, *, where: str | None, hint: str | None, as_json: bool) -> int:
    """Tell an error, for programs on standard output too; returns the exit status."""
    if as_json:
        print_json({"error": {"what": what, "where": where, "hint": hint}})
    tell_error(f"Error: {BackflipError(what, where=where, hint=hint)}", red=True)
    return 1


def tell_error(text: str, *, red: bool = False) -> None:
    """Say something on standard error; where that is gone, nobody is there to be told."""
    with suppress(OSError, ValueError):
        shown = red and sys.stderr is not None and sys.stderr.isatty()
        typer.secho(clean_text(text), err=True, fg="red" if shown else None)


class Output(io.TextIOWrapper):
    """Standard output that remembers how writing to it failed."""

    lost: OSError | None = None

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self.lost = error
            raise

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self.lost = error
            raise


@contextmanager
def watched_output() -> Iterator[Callable[[], OSError | None]]:
    """Standard output while a command writes to it; gives what tells how that failed, if it did.

    What cannot be written is let go of, lest the interpreter fail by it once more at its end.
    """
    before = sys.stdout
    if before is None:
        yield from _closed_output()
        return
    if not isinstance(before, io.TextIOWrapper):  # a program's own
        yield lambda: None
        return
    watched = Output(
        before.buffer,
        encoding=before.encoding,
        errors=before.errors,
        line_buffering=before.line_buffering,
    )
    sys.stdout = watched
    try:
        yield lambda: watched.lost
    finally:
        sys.stdout = before
        if watched.lost is not None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, before.fileno())
            os.close(nowhere)
        watched.detach()


class _Closed(io.RawIOBase):
    """A standard output that was closed before the program started."""

    def writable(self) -> bool:
        return True

    def write(self, _: Any, /) -> int:
        raise OSError(errno.EBADF, "it is closed")


def _closed_output() -> Iterator[Callable[[], OSError | None]]:
    """One that nothing needs to be written to, but what is written is lost."""
    watched = Output(io.BufferedWriter(_Closed()), encoding="utf-8", errors="replace")
    sys.stdout = watched
    try:
        yield lambda: watched.lost
    finally:
        sys.stdout = None
        with suppress(OSError):
            watched.close()


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Rows as aligned text."""
    if not rows:
        return "(none)"
    names = list(columns or rows[0])
    cells = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


class TerminalReporter:
    """Words, bars and what came of them on standard error; no bars where that is no terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console: Console = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        self._print(text)

    def warn(self, text: str) -> None:
        self._print(f"Warning: {text}", style="yellow")

    def _print(self, text: str, **how: Any) -> None:
        # A run goes on for those who read its results, though the terminal is gone.
        with suppress(OSError):
            self.console.print(clean_text(text), markup=False, **how)

    @contextmanager
    def bar(self, title: str, total: int | None, unit: str) -> Iterator[Callable[..., None]]:
        """A bar while it lasts, without an end where nobody knows the total; a line of what was
        done stays behind.
        """
        from rich.progress import Progress

        start, done, last = time.monotonic(), 0, ""
        hidden = not self.console.is_terminal
        with Progress(
            *_columns(), console=self.console, disable=hidden, transient=True
        ) as progress:
            task = progress.add_task(clean_text(title), total=total, rate="", note="")

            def advance(number: int, note: str = "") -> None:
                nonlocal done, last
                done, last = done + number, note or last
                progress.advance(task, number)
                speed = progress.tasks[0].finished_speed or progress.tasks[0].speed
                rate = f"{speed:.3g} {unit}/s" if speed else ""
                progress.update(task, rate=rate, note=last)

            yield advance
        seconds = time.monotonic() - start
        self.say(f"{title:<20} {done:>5} {unit}, {seconds:.1f} s  {last}".rstrip())


def _columns() -> tuple[Any, ...]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
