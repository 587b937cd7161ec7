"""The command of the worker that draws the replies which pages ask for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer

from backflip.cli.output import (
    DEFAULT_WORKSPACE,
    JsonOption,
    TerminalReporter,
    WorkspaceOption,
    show,
)
from backflip.cli.signals import Stopped, handled
from backflip.cli.workspaces import open_workspace


def worker(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    once: Annotated[bool, typer.Option("--once", help="End when nothing waits any more.")] = False,
    models_in_memory: Annotated[
        int,
        typer.Option(min=1, help="Models kept loaded; the one least recently used goes first."),
    ] = 1,
    device: Annotated[
        str, typer.Option(help="Where the models are computed: cpu or cuda.")
    ] = "cpu",
    precision: Annotated[
        str, typer.Option(help="Of the models: auto, float32 or bfloat16, as in a recipe.")
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Draw the replies that pages of the labelling server ask for, until Ctrl-C or SIGTERM.

    Run it beside the server; it may be on another machine where the database and the folder can be
    reached from there, and there may be several. What one was at when it ended, the next one draws.
    """
    from backflip.config import ModelSettings
    from backflip.serving.worker import Worker

    settings = ModelSettings.parse(
        {"device": device, "precision": precision}, where="--device, --precision"
    )
    with open_workspace(workspace) as opened, _told_to_end() as told:
        reporter = TerminalReporter()
        made = Worker(
            opened, models_in_memory=models_in_memory, settings=settings, reporter=reporter
        )
        reporter.say(f"{made.name} draws what is asked for in {opened.root}.")
        counts = made.run(once=once, stopped=told)
    show(counts, as_json, lambda: ", ".join(f"{n} {state}" for state, n in counts.items()))


@contextmanager
def _told_to_end() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM or Ctrl-C came; a second one interrupts whatever is under way.

    Raises:
        Stopped: when the block has ended after one.
    """
    got: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        got.append(number)
        if len(got) > 1:
            raise Stopped(number)

    with handled(note):
        yield lambda: bool(got)
    if got:
        raise Stopped(got[0])


def add_to(app: typer.Typer) -> None:
    """Register the command of this file."""
    app.command()(worker)
