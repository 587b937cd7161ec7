"""All commands, and how errors are told."""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from backflip import __version__
from backflip.cli import backups, data, doctor, loop, models, quality, server, stages, worker
from backflip.cli.faults import check_surroundings, tell_fault
from backflip.cli.output import fail, note_workspace, print_json, tell_error, watched_output
from backflip.cli.signals import handled, status_of, stop
from backflip.errors import BackflipError, unreachable

app = typer.Typer(
    name="backflip",
    help="Reinforcement learning from human feedback, whole: from pre-trained to preferred.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DEBUG = "--debug"
BROKEN_PIPE = 141
"""The status that shells give a program whose reader has left: 128 and the number of SIGPIPE."""
STOPPED = "Stopped. What was done is kept: the same command goes on from there."
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; whatever ends it is told in words, without a traceback.

    Args:
        arguments: what stands after the program's name; those of this process when None.

    Raises:
        SystemExit: always, with 0; 1 for an error that the user can mend, 2 for a command line that
            cannot be read, 70 for a fault of Backflip's own, 128 and the number of the signal that
            stopped it: 130 after Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    before = given[: given.index("--")] if "--" in given else given
    command = _Command(
        arguments=[*(word for word in before if word != DEBUG), *given[len(before) :]],
        as_json="--json" in before,
        debug=DEBUG in before,
    )
    raise SystemExit(command.run())


@dataclass(frozen=True)
class _Command:
    """One command line, carried out and told of."""

    arguments: list[str]
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
                with handled(stop):
                    code = self._carry_out()
            except BaseException as error:
                if lost() is None:
                    code = self._tell(error)
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError:
            if lost() is None:
                raise
        return code

    def _carry_out(self) -> int:
        if found := check_surroundings(self.arguments):
            raise BackflipError(found[0], hint=found[1])
        # Not the library's own way to run it, which takes a file's early end for a Ctrl-D.
        group = typer.main.get_command(app)
        with group.make_context("backflip", list(self.arguments)) as context:
            result = group.invoke(context)
        return result if isinstance(result, int) else 0

    def _tell(self, error: Any) -> int:
        if isinstance(error, typer.Exit):
            return int(error.exit_code)
        if isinstance(error, KeyboardInterrupt | typer.Abort):
            return self._tell_stopped(status_of(error))
        if isinstance(error, OSError):
            error = unreachable(error) or error
        if isinstance(error, BackflipError):
            return fail(error.what, where=error.where, hint=error.hint, as_json=self.as_json)
        if isinstance(error, CommandError):
            if self.as_json:
                print_json(_error(error.format_message()))
            error.show()
            return int(error.exit_code)
        return tell_fault(error, self.arguments, as_json=self.as_json, debug=self.debug)

    def _tell_stopped(self, code: int) -> int:
        if self.as_json:
            print_json(_error(STOPPED))
        tell_error(f"\n{STOPPED}")
        return code

    def _tell_lost(self, error: OSError, code: int) -> int:
        """Say that standard output could not be written, unless its reader has left."""
        if error.errno == errno.EPIPE:
            return BROKEN_PIPE
        tell_error(f"Error: standard output cannot be written: {error.strerror}")
        return code or 1


def _error(what: str) -> dict[str, Any]:
    return {"error": {"what": what, "where": None, "hint": None}}
