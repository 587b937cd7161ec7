"""Files into a workspace and out of it."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from backflip.data.rows import Rejected
from backflip.errors import DamageError, FormatError
from backflip.formats.base import Labelled
from backflip.formats.registry import Written, detect, find_format, read, write
from backflip.records import Sample
from backflip.records.feedback import FeedbackBase
from backflip.workspace import Workspace
from backflip.workspace.material.journal import OnDamaged, stop_at_damaged

_BATCH = 256
_REJECTED_KEPT = 1000


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        file, format: what was read, and as what.
        entries: entries in the good rows.
        new: those of them that the workspace did not have.
        samples: samples that it did not have.
        num_rejected: rows that were not taken.
        rejected: the first thousand of those, with file, line and reason.
        ignored: columns that were not used, and in how many of the good rows.
    """

    file: str
    format: str
    entries: int
    new: int
    samples: int
    num_rejected: int
    rejected: tuple[Rejected, ...]
    ignored: Mapping[str, int]

    @property
    def known(self) -> int:
        """Entries that the workspace had already."""
        return self.entries - self.new


def import_file(
    ws: Workspace,
    source: str | Path,
    format: str = "auto",  # noqa: A002
    *,
    annotator: str | None = None,
    axis: str = "overall",
    run: str | None = None,
    advance: Callable[[int], None] | None = None,
) -> ImportReport:
    """Add a file's feedback to a workspace; bad rows are reported, and good ones kept.

    Importing the same file again changes nothing. An import that was interrupted is finished by
    running it again.

    Args:
        ws: the workspace.
        source: a file, a data set's folder or a hub id.
        format: a name in `FORMATS`, or "auto".
        annotator: who is said to have answered, in formats that do not tell.
        axis: what is said to have been judged, likewise.
        run: that the entries are put down to, in its round 0.
        advance: called with the number of rows done since the last call.

    Raises:
        FormatError: as `read`, or when a name given for annotator or axis cannot be used.
    """
    for name, value in (("annotator", annotator), ("axis", axis)):
        if value is not None and (not value or not value.isprintable()):
            raise FormatError(f"{name} {value!r} is empty or holds control characters")
    format_ = detect(source) if format == "auto" else find_format(format)
    entries = new = samples = num_rejected = 0
    rejected: list[Rejected] = []
    ignored: Counter[str] = Counter()
    rows = read(source, format_.name, annotator=annotator, axis=axis, ignored=ignored)
    while batch := list(islice(rows, _BATCH)):
        good = [row for row in batch if isinstance(row, Labelled)]
        bad = [row for row in batch if isinstance(row, Rejected)]
        found = [entry for row in good for entry in row.entries]
        # Samples first: an entry may only speak of samples that are there.
        said = dict[str, Sample]()
        for sample in (s for row in good for s in row.samples):
            said.setdefault(sample.id, sample)  # of the same one twice the first place is kept
        samples += ws.samples.add(said.values())
        new += len(ws.journal.add(found, run=run, round=None if run is None else 0))
        entries += len(found)
        num_rejected += len(bad)
        rejected += bad[: _REJECTED_KEPT - len(rejected)]
        if advance is not None:
            advance(len(batch))
    return ImportReport(
        file=Path(source).name,
        format=format_.name,
        entries=entries,
        new=new,
        samples=samples,
        num_rejected=num_rejected,
        rejected=tuple(rejected),
        ignored=dict(ignored),
    )


def export_file(
    ws: Workspace,
    path: str | Path,
    format: str,  # noqa: A002
    *,
    kinds: str | Collection[str] | None = None,
    axis: str | Collection[str] | None = None,
    origin: str | Collection[str] | None = None,
    annotator: str | Collection[str] | None = None,
    runs: Collection[str] | None = None,
    plain: bool = False,
    advance: Callable[[int], None] | None = None,
    on_damaged: OnDamaged = stop_at_damaged,
) -> Written:
    """Write a workspace's active feedback to a file, which is there whole or not at all.

    Args:
        ws: the workspace.
        path: its ending says which kind of file.
        format: a name in `FORMATS`.
        kinds: only entries of this kind or these; None: of all.
        axis: only entries on this axis or these.
        origin: only entries of this origin or these.
        annotator: only entries of this annotator or these.
        runs: only entries of these runs.
        plain: as in `write`.
        advance: called with the number of entries done since the last call.
        on_damaged: called with each entry that is left out because it, or a sample that it speaks
            of, is damaged or gone; by default the first one is raised.

    Raises:
        DamageError: see `on_damaged`.
    """
    entries = ws.journal.active(
        kinds=kinds,
        axis=axis,
        origin=origin,
        annotator=annotator,
        run=runs,
        held=True,
        on_damaged=on_damaged,
    )
    return write(path, format, _with_samples(ws, entries, advance, on_damaged), plain=plain)


def _carried(ws: Workspace, sample: Sample) -> Sample:
    """The sample, with the bytes of the images in its prompt."""
    if not sample.prompt.images:
        return sample
    return replace(sample, prompt=ws.media.carried(sample.prompt))


def _with_samples(
    ws: Workspace,
    entries: list[FeedbackBase],
    advance: Callable[[int], None] | None,
    on_damaged: OnDamaged,
) -> Iterator[Labelled]:
    for start in range(0, len(entries), _BATCH):
        batch = entries[start : start + _BATCH]
        yield from _readable(ws, batch, on_damaged)
        if advance is not None:
            advance(len(batch))


def _readable(
    ws: Workspace, entries: list[FeedbackBase], on_damaged: OnDamaged
) -> Iterator[Labelled]:
    """Entries with their samples; of those with a damaged one each half is tried for itself."""
    try:
        found = ws.samples.get(id_ for entry in entries for id_ in entry.sample_ids)
        whole = [
            Labelled(tuple(_carried(ws, found[id_]) for id_ in entry.sample_ids), (entry,))
            for entry in entries
        ]
    except DamageError as error:
        half = len(entries) // 2
        if half == 0:
            on_damaged(entries[0].id, error)
            return
        yield from _readable(ws, entries[:half], on_damaged)
        yield from _readable(ws, entries[half:], on_damaged)
        return
    yield from whole
