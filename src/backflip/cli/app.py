"""All commands, and how errors are told."""

import errno
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import typer

from backflip import __version__
from backflip.cli import backups, data, doctor, loop, models, quality, server, stages, worker
from backflip.cli.faults import check_surroundings, tell_fault
from backflip.cli.flags import DEBUG
from backflip.cli.output import fail, note_workspace, print_json, tell_error, watched_output
from backflip.cli.signals import Stop, Stopped, status_of, tell_stopped
from backflip.errors import BackflipError, unreachable

app = typer.Typer(
    name="backflip",
    help="Reinforcement learning from human feedback, whole: from pre-trained to preferred.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

EXTENSIONS = "BACKFLIP_EXTENSIONS"
"""Environment variable with modules that every command is to import, commas between them."""
BROKEN_PIPE = 141
"""The status that shells give a program whose reader has left: 128 and the number of SIGPIPE."""
# What typer raises for a wrong command line, and the base of that; newer versions of typer bring
# these classes themselves and older ones take click's.
UsageError: Any = typer.BadParameter.__bases__[0]
CommandError: Any = UsageError.__bases__[0]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"backflip {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and leave."
    ),
    debug: bool = typer.Option(
        False, DEBUG, help="Show the traceback of an unexpected error; may stand anywhere."
    ),
) -> None:
    # A hub client that waits for a network that is not there holds up every start.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


for module in (loop, stages, data, models, quality, backups, doctor, server, worker):
    module.add_to(app)


def run(arguments: list[str], stop: Stop, *, as_json: bool, debug: bool) -> int:
    """Carry a command line out, and tell whatever ends it in words.

    Args:
        arguments: what stands after the program's name, but for `--debug`.
        stop: takes the signals.
        as_json: whether errors are told as JSON, too.
        debug: whether a fault's traceback is shown.

    Returns:
        the exit status.
    """
    return _Command(arguments=arguments, stop=stop, as_json=as_json, debug=debug).run()


@dataclass(frozen=True)
class _Command:
    """One command line, carried out and told of."""

    arguments: list[str]
    stop: Stop
    as_json: bool
    debug: bool

    def run(self) -> int:
        """Returns the exit status."""
        note_workspace(None)
        with watched_output() as lost:
            code = self._end(lost)
            error = lost()
        return code if error is None else self._tell_lost(error, code)

    def _end(self, lost: Callable[[], OSError | None]) -> int:
        """Carry the command out, and tell how it ended, as far as that can be written."""
        code = 1
        try:
            try:
                code = self._carry_out()
                self.stop.settled = True
            except BaseException as error:
                if lost() is None:
                    code = self._tell_whole(error)
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError:
            if lost() is None:
                raise
        return code

    def _carry_out(self) -> int:
        if found := check_surroundings(self.arguments):
            raise BackflipError(found[0], hint=found[1])
        if EXTENSIONS in os.environ:
            from backflip.config.extensions import load_named_extensions

            load_named_extensions(EXTENSIONS)
        # Not the library's own way to run it, which takes a file's early end for a Ctrl-D.
        group = typer.main.get_command(app)
        with group.make_context("backflip", list(self.arguments)) as context:
            result = group.invoke(context)
        return result if isinstance(result, int) else 0

    def _tell_whole(self, error: BaseException) -> int:
        try:
            code = self._tell(error)
        except Stopped as stopped:  # by somebody who does not want to read on
            code = status_of(stopped)
        self.stop.settled = True
        return code

    def _tell(self, error: Any) -> int:
        if isinstance(error, typer.Exit):
            return int(error.exit_code)
        if self.stop.number is not None:  # whatever a library made of it
            error = Stopped(self.stop.number)
        if isinstance(error, KeyboardInterrupt | typer.Abort):
            tell_stopped(as_json=self.as_json)
            return status_of(error)
        if isinstance(error, OSError):
            error = unreachable(error) or error
        if isinstance(error, BackflipError):
            return fail(error.what, where=error.where, hint=error.hint, as_json=self.as_json)
        if isinstance(error, CommandError):
            if self.as_json:
                told = {"what": error.format_message(), "where": None, "hint": None}
                print_json({"error": told})
            error.show()
            return int(error.exit_code)
        return tell_fault(error, self.arguments, as_json=self.as_json, debug=self.debug)

    def _tell_lost(self, error: OSError, code: int) -> int:
        """Say that standard output could not be written, unless its reader has left."""
        if error.errno == errno.EPIPE:
            return BROKEN_PIPE
        tell_error(f"Error: standard output cannot be written: {error.strerror}")
        return code or 1
