"""All commands, and how errors are told."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from backflip import __version__
from backflip.cli import backups, data, doctor, loop, models, quality, server, stages, worker
from backflip.cli.output import fail, print_json
from backflip.errors import BackflipError

app = typer.Typer(
    name="backflip",
    help="Reinforcement learning from human feedback, whole: from pre-trained to preferred.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

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
) -> None:
    # A hub client that waits for a network that is not there holds up every start.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


for module in (loop, stages, data, models, quality, backups, doctor, server, worker):
    module.add_to(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an error that the user can mend is told in words, without a trace.

    Args:
        arguments: what stands after the program's name; those of this process when None.

    Raises:
        SystemExit: always, with 0; 1 for an error, 2 for a command line that cannot be read, 130
            after Ctrl-C. A fault of Backflip's own keeps its traceback.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    raise SystemExit(_run(given, as_json="--json" in given))


def _run(arguments: list[str], *, as_json: bool) -> int:
    command = typer.main.get_command(app)
    try:
        result = command.main(arguments, prog_name="backflip", standalone_mode=False)
    except BackflipError as error:
        return fail(error.what, where=error.where, hint=error.hint, as_json=as_json)
    except CommandError as error:
        if as_json:
            print_json({"error": {"what": error.format_message(), "where": None, "hint": None}})
        error.show()
        return int(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        result = 130
    except Exception as error:
        if as_json:
            what = f"{type(error).__name__}: {error}"
            print_json({"error": {"what": what, "where": None, "hint": None}})
        raise
    code = result if isinstance(result, int) else 0
    if code == 130:
        if as_json:
            print_json({"error": {"what": STOPPED, "where": None, "hint": None}})
        typer.echo(f"\n{STOPPED}", err=True)
    return code
