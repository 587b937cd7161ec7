"""The command of the labelling server."""

from pathlib import Path
from typing import Annotated

import typer

from backflip.cli.output import (
    DEFAULT_WORKSPACE,
    DatabaseOption,
    OverridesArgument,
    note_workspace,
)
from backflip.cli.signals import Stopped
from backflip.cli.workspaces import open_workspace


def serve(
    workspace: Annotated[
        Path,
        typer.Argument(
            metavar="WORKSPACE",
            envvar="BACKFLIP_WORKSPACE",
            help="Folder with the database and files.",
        ),
    ] = DEFAULT_WORKSPACE,
    overrides: OverridesArgument = None,
    file: Annotated[
        Path | None, typer.Option("--settings", metavar="FILE", help="A TOML file of settings.")
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Make the workspace where there is none.")
    ] = False,
    database: DatabaseOption = None,
) -> None:
    """Serve the pages on which people give feedback, until Ctrl-C or SIGTERM.

    The first start prints a link that makes the administrator's account; everybody else is
    invited from there. Several servers may serve one workspace on PostgreSQL.
    """
    from backflip.config import ServerSettings, apply_overrides, lines_of, read_toml

    given = list(overrides or [])
    if "=" in str(workspace):
        given, workspace = [str(workspace), *given], DEFAULT_WORKSPACE
    note_workspace(workspace)
    data = apply_overrides(read_toml(file) if file is not None else {}, given)
    settings = ServerSettings.parse(
        data,
        where=str(file) if file else "serve",
        line_of=lines_of(file, given) if file else None,
    )
    try:
        from backflip.web.serve import serve as serve_workspace
    except ModuleNotFoundError as error:
        from backflip.errors import BackflipError

        raise BackflipError(
            f"the server needs {error.name}", hint="pip install 'backflip[web]'"
        ) from None
    with open_workspace(workspace, create=new, database=database) as opened:
        told = serve_workspace(opened, settings, lambda line: typer.echo(line, err=True))
    if told is not None:
        raise Stopped(told)


def add_to(app: typer.Typer) -> None:
    """Register the command of this file."""
    app.command()(serve)
