"""Commands that back a workspace up, check a backup and make a workspace of one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backflip.cli.output import (
    DEFAULT_WORKSPACE,
    DatabaseOption,
    JsonOption,
    TerminalReporter,
    WorkspaceOption,
    show,
    table,
)
from backflip.cli.workspaces import open_workspace
from backflip.errors import SettingsError
from backflip.plain_text import counted

if TYPE_CHECKING:
    from backflip.workspace.transfer.backup import Manifest
    from backflip.workspace.transfer.bounds import Bounds

_SHOWN = 5
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="The backup is your own: read it however much it unpacks to, up to the "
        "room on the disk.",
    ),
]


def backup(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A tar file; one that ends in .gz is packed.")
    ],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    no_artifacts: Annotated[
        bool, typer.Option("--no-artifacts", help="Only the rows, without models and other files.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file that is there already.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Write nothing: check that FILE is a whole backup.")
    ] = False,
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the whole workspace to one file, while others go on working in it.

    The file is there whole or not at all. It holds the workspace's secrets too: keep it as safe.
    Checkpoints of a stage that is under way are left out: a restored run begins that stage again.
    """
    from backflip.workspace.transfer.backup import write_backup
    from backflip.workspace.transfer.reading import check_backup

    if trust and not verify:
        raise SettingsError("--trust is for a backup that is read: give --verify too")
    if verify:
        if no_artifacts or force:
            raise SettingsError(
                "--verify writes nothing, so that --no-artifacts and --force have no place there"
            )
        with TerminalReporter().bar("Check", None, "rows") as advance:
            manifest = check_backup(file, advance=advance, bounds=_bounds(trust))
        facts = {"file": str(file), **_facts(manifest)}
        show(facts, as_json, lambda: f"Whole: {_contents(manifest)}.\n\n{_rows(manifest)}")
        return
    with (
        open_workspace(workspace) as opened,
        TerminalReporter().bar("Backup", None, "rows") as advance,
    ):
        written = write_backup(
            opened, file, artifacts=not no_artifacts, force=force, advance=advance
        )
    manifest = written.manifest
    facts = {
        "file": str(file),
        **_facts(manifest),
        "left_out": list(written.left_out),
        "elsewhere": list(written.elsewhere),
    }

    def lines() -> str:
        told = [f"Written to {file}: {_contents(manifest)}."]
        told += _named("Left out, since it is of work under way", written.left_out)
        told += _named("Not in it, since it lies outside the workspace", written.elsewhere)
        return "\n".join([*told, "", _rows(manifest)])

    show(facts, as_json, lines)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")],
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The new workspace; missing or empty before.")
    ],
    database: DatabaseOption = None,
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a new workspace of a backup, on either database, and bring an old one up to date.

    Cut off, it leaves no workspace behind: the same command begins again.
    """
    from backflip.workspace.transfer.restore import restore_backup

    with TerminalReporter().bar("Restore", None, "rows") as advance:
        manifest = restore_backup(file, folder, database, advance=advance, bounds=_bounds(trust))
    facts = {"workspace": str(folder), **_facts(manifest)}
    show(facts, as_json, lambda: f"Restored to {folder}: {_contents(manifest)}.")


def _bounds(trust: bool) -> "Bounds":
    from backflip.workspace.transfer.bounds import BOUNDS

    return BOUNDS.trusting() if trust else BOUNDS


def _facts(manifest: "Manifest") -> dict[str, Any]:
    return {
        "backflip": manifest.heading.backflip,
        "schema": manifest.heading.revision,
        "created": manifest.heading.created.isoformat(),
        "rows": sum(manifest.tables.values()),
        "artifacts": manifest.artifacts,
        "bytes": sum(member.size for member in manifest.members),
        "tables": manifest.tables,
    }


def _contents(manifest: "Manifest") -> str:
    facts = _facts(manifest)
    return (
        f"{counted(facts['rows'], 'row')} and {counted(facts['artifacts'], 'file')}, "
        f"{facts['bytes'] / 1e6:.1f} MB, of "
        f"{manifest.heading.created:%Y-%m-%d %H:%M} UTC"
    )


def _rows(manifest: "Manifest") -> str:
    return table([{"table": name, "rows": n} for name, n in manifest.tables.items() if n])


def _named(reason: str, paths: tuple[str, ...]) -> list[str]:
    more = f" and {len(paths) - _SHOWN} more (see --json)" if len(paths) > _SHOWN else ""
    return [f"{reason}: {', '.join(paths[:_SHOWN])}{more}"] if paths else []


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.command()(backup)
    app.command()(restore)
