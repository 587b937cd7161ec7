"""The command that says what of a workspace is damaged."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backflip.cli.output import DEFAULT_WORKSPACE, JsonOption, show
from backflip.plain_text import counted

if TYPE_CHECKING:
    from backflip.workspace.doctor.backup import BackupComparison
    from backflip.workspace.doctor.diagnosis import Diagnosis

_SHOWN = 50


def doctor(
    workspace: Annotated[
        Path,
        typer.Argument(
            metavar="WORKSPACE",
            envvar="BACKFLIP_WORKSPACE",
            help="Folder with the database and files.",
        ),
    ] = DEFAULT_WORKSPACE,
    backup: Annotated[
        Path | None,
        typer.Option("--backup", metavar="FILE", help="Say what this backup would bring back."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what of a workspace is damaged or lost, and change nothing.

    The database, every row that is named by what it holds and every file that a row speaks of are
    read from end to end. The exit status is 1 where something is damaged or lost.
    """
    from backflip.workspace.doctor.diagnosis import diagnose

    found = diagnose(workspace, backup)
    show(found.model_dump(mode="json"), as_json, lambda: "\n".join(_lines(found)))
    if found.state != "whole":
        raise typer.Exit(1)


def _lines(found: "Diagnosis") -> Iterator[str]:
    wrong = [finding for finding in found.findings if finding.state != "note"]
    notes = [finding for finding in found.findings if finding.state == "note"]
    yield f"{found.workspace}: {counted(len(wrong), 'fault') if wrong else 'whole'}"
    for finding in (*wrong[:_SHOWN], *notes[:_SHOWN]):
        yield f"  {finding.state:<8} {finding.where}: {finding.what}"
    if more := len(wrong[_SHOWN:]) + len(notes[_SHOWN:]):
        yield f"  and {more} more (see --json)"
    if found.backup is not None:
        yield from _of_backup(found.backup)
    elif wrong:
        yield "With --backup FILE it says what a backup would bring back."


def _of_backup(backup: "BackupComparison") -> Iterator[str]:
    yield f"{backup.file}: a whole backup of {backup.created:%Y-%m-%d %H:%M} UTC"
    rows = ", ".join(f"{number} of {table}" for table, number in backup.rows.items())
    number = counted(sum(backup.rows.values()), "row")
    yield f"  would bring back {number}{f': {rows}' if rows else ''}"
    yield f"  would bring back {counted(len(backup.files), 'file')}"
    yield from (f"    {name}" for name in backup.files[:_SHOWN])
    changed = ", ".join(f"{number} of {table}" for table, number in backup.changed.items())
    if changed:
        yield f"  has other values in {counted(sum(backup.changed.values()), 'row')}: {changed}"


def add_to(app: typer.Typer) -> None:
    """Register this command."""
    app.command()(doctor)
