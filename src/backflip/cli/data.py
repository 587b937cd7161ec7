"""Commands on feedback: import, export, count and withdraw it."""

from collections.abc import Mapping
from dataclasses import asdict
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
from backflip.errors import SettingsError, WorkspaceError
from backflip.plain_text import counted

if TYPE_CHECKING:
    from backflip.formats.registry import Written
    from backflip.workspace import Workspace

feedback_app = typer.Typer(
    no_args_is_help=True, help="Import, export, count and withdraw feedback."
)
WHO_AND_WHAT = (
    "backflip feedback stats lists annotators; backflip lineage MODEL --json has the ids of the "
    "entries that a model learned from."
)
KindOption = Annotated[
    list[str] | None, typer.Option("--kind", help="Only entries of this kind; again for more.")
]
SHOWN_REJECTIONS = 20
# Written out, since the formats themselves take a while to import; a test holds the two together.
FORMAT_NAMES = (
    "backflip-jsonl, backflip-parquet, hh, rewardbench, trl-preference, trl-unpaired, "
    "trl-prompt-completion, argilla or label-studio"
)


@feedback_app.command("import")
def import_(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A file, a data set's folder or a hub id.")
    ],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    format: Annotated[str, typer.Option(help=f"{FORMAT_NAMES}; auto: told by the fields.")] = (
        "auto"
    ),
    annotator: Annotated[
        str | None, typer.Option(help="Who answered, where the file does not tell.")
    ] = None,
    axis: Annotated[str, typer.Option(help="What was judged, where the file does not tell.")] = (
        "overall"
    ),
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a file's feedback to the workspace; bad rows are named and left out.

    The same file twice counts once. Where no row is good, the command fails.
    """
    from backflip.formats import import_file

    with (
        open_workspace(workspace, create=True, database=database) as opened,
        TerminalReporter().bar("Import", None, "rows") as advance,
    ):
        report = import_file(opened, file, format, annotator=annotator, axis=axis, advance=advance)
    facts = {
        "format": report.format,
        "entries": report.entries,
        "new": report.new,
        "samples": report.samples,
        "rejected": report.num_rejected,
        "rejections": [
            {"file": r.file, "line": r.line, "reason": r.reason} for r in report.rejected
        ],
        "ignored": dict(report.ignored),
    }
    show(facts, as_json, lambda: _import_lines(report))
    if not report.entries:
        raise typer.Exit(1)


def _import_lines(report: Any) -> str:
    lines = [
        f"{report.entries} entries read as {report.format}, {report.new} of them new; "
        f"{report.num_rejected} rows left out."
    ]
    lines += [f"  {rejected}" for rejected in report.rejected[:SHOWN_REJECTIONS]]
    if report.num_rejected > SHOWN_REJECTIONS:
        lines.append(f"  and {report.num_rejected - SHOWN_REJECTIONS} more (see --json)")
    if report.ignored:
        counts = ", ".join(f"{name} ({number})" for name, number in report.ignored.items())
        lines.append(f"Columns that were not used, and in how many rows: {counts}.")
    return "\n".join(lines)


@feedback_app.command("export")
def export(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where to; its ending says which kind of file.")
    ],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    format: Annotated[str, typer.Option(help=f"{FORMAT_NAMES}.")] = "backflip-jsonl",
    kind: KindOption = None,
    axis: Annotated[str | None, typer.Option(help="Only entries on this axis.")] = None,
    annotator: Annotated[str | None, typer.Option(help="Only this annotator's entries.")] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Texts instead of lists of turns, in TRL's formats.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the feedback that counts to a file; it is there whole or not at all.

    Damaged entries, and those on damaged samples, are named and left out. Where they leave no row,
    the command fails.
    """
    from backflip.formats import export_file
    from backflip.records.feedback import KINDS

    if unknown := sorted(set(kind or ()) - set(KINDS)):
        raise SettingsError(
            f"no kind {unknown[0]!r}", where="--kind", hint=f"Kinds: {', '.join(KINDS)}."
        )
    damaged: list[dict[str, str]] = []
    with (
        open_workspace(workspace) as opened,
        TerminalReporter().bar("Export", None, "entries") as advance,
    ):
        written = export_file(
            opened,
            file,
            format,
            kinds=kind,
            axis=axis,
            annotator=annotator,
            plain=plain,
            advance=advance,
            on_damaged=lambda name, error: damaged.append({"entry": name, "reason": error.what}),
        )
    facts = {
        "file": str(file),
        "format": format,
        "rows": written.rows,
        "left_out": written.left_out,
        "damaged": damaged,
    }
    show(facts, as_json, lambda: _export_lines(file, written, damaged))
    if damaged:
        TerminalReporter().warn(
            f"{file} lacks {counted(len(damaged), 'damaged answer')}; "
            f"backflip doctor {workspace} says what is damaged."
        )
    if damaged and not written.rows:
        raise typer.Exit(1)


def _export_lines(file: Path, written: "Written", damaged: list[dict[str, str]]) -> str:
    left_out = sum(written.left_out.values()) + len(damaged)
    lines = [f"{written.rows} rows written to {file}, {left_out} left out."]
    lines += [f"  {number}: {reason}" for reason, number in written.left_out.items()]
    lines += [f"  {each['entry']}: {each['reason']}" for each in damaged[:SHOWN_REJECTIONS]]
    if more := len(damaged[SHOWN_REJECTIONS:]):
        lines.append(f"  and {more} more that are damaged (see --json)")
    return "\n".join(lines)


@feedback_app.command("stats")
def stats(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Count the feedback by kind, annotator, origin and axis, and say how far people agree."""
    from backflip.quality import measure_agreement

    with open_workspace(workspace) as opened:
        found = opened.journal.stats()
        agreed = measure_agreement(opened.journal.active())
    groups = {
        "kind": found.by_kind,
        "annotator": found.by_annotator,
        "origin": found.by_origin,
        "axis": found.by_axis,
    }
    agreement = [asdict(one) for one in agreed if one.num_pairs]
    facts = {"active": found.active, "retracted": found.retracted, **groups}
    facts["agreement"] = agreement

    def lines() -> str:
        parts = [f"{found.active} entries count, {found.retracted} were withdrawn."]
        for name, counts in groups.items():
            parts.append(table([{name: key, "entries": n} for key, n in counts.items()]))
        if agreement:
            parts.append("Of those who answered the same (alpha: 1 agreed, 0 as by chance):")
            parts.append(table([_agreement_row(one) for one in agreement]))
        return "\n\n".join(parts)

    show(facts, as_json, lines)


def _agreement_row(one: Mapping[str, Any]) -> dict[str, Any]:
    alpha = "" if one["alpha"] is None else f"{one['alpha']:.2f}"
    shared = {"items": one["num_units"], "equal": f"{one['raw']:.0%}", "alpha": alpha}
    return {"kind": one["kind"], "axis": one["axis"], **shared}


@feedback_app.command("revoke")
def revoke(
    reason: Annotated[str, typer.Option(help="Why; kept in the journal.")],
    entry: Annotated[str | None, typer.Option(help="Id of an entry to withdraw.")] = None,
    annotator: Annotated[
        str | None, typer.Option(help="Name of an annotator, to withdraw all that they said.")
    ] = None,
    by: Annotated[str, typer.Option(help="Who withdraws it; kept in the journal.")] = "me",
    erase: Annotated[
        bool, typer.Option("--erase", help="Erase what the annotator wrote, too, for good.")
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Withdraw an entry or an annotator, and list what must be trained again without it.

    Given again, it lists the same once more.
    """
    from backflip.workspace import touched

    if (entry is None) == (annotator is None):
        raise SettingsError("name either an --entry or an --annotator")
    if erase and annotator is None:
        raise SettingsError("only all that an --annotator wrote can be erased")
    with open_workspace(workspace) as opened:
        try:
            if entry is not None:
                ids = [entry] if opened.journal.retract(entry, reason, by) else []
                named, kept = [entry], 0
            else:
                ids, kept = _withdraw(opened, str(annotator), reason, by, erase)
                named = opened.journal.said_by(str(annotator))
        except WorkspaceError as error:
            raise WorkspaceError(
                error.what, where=str(opened.root), hint=error.hint or WHO_AND_WHAT
            ) from None
        found = touched(opened, named)
    new = set(ids)
    before = [name for name in named if name not in new]
    facts = {
        "withdrawn": ids,
        "withdrawn_before": before,
        "texts_kept": kept,
        "snapshots": list(found.snapshots),
        "reward_models": [m.id for m in found.reward_models],
        "policies": [m.id for m in found.policies],
    }

    def lines() -> str:
        rows = [{"train again": m.id, "stage": m.stage, "name": m.name} for m in found.models]
        known = f"{len(before)} had been withdrawn before" if before else ""
        told = f"{len(ids)} entries withdrawn" if ids or not known else "Nothing new to withdraw"
        wrote = "what was written is erased" if erase else ""
        others = f"{kept} texts stay, because others speak of them" if kept else ""
        held = f"{len(found.snapshots)} snapshots hold them"
        told = "; ".join(filter(None, (told, known, held, wrote, others)))
        return f"{told}.\n\n{table(rows)}"

    show(facts, as_json, lines)


def _withdraw(
    workspace: "Workspace", annotator: str, reason: str, by: str, erase: bool
) -> tuple[list[str], int]:
    """Take back all that somebody said; returns what counted, and how many texts stay."""
    from backflip import workspace as store

    if not erase:
        return workspace.journal.retract_annotator(annotator, reason, by), 0
    done = store.erase(workspace, annotator, by=by, reason=reason)
    return done.retracted, done.texts_kept


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.add_typer(feedback_app, name="feedback")
