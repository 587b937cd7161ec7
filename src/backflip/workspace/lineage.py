"""What stands behind a model, and what a revocation touches."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from backflip.errors import WorkspaceError
from backflip.records.feedback import FeedbackBase
from backflip.workspace.database import schema
from backflip.workspace.database.engine import chunks
from backflip.workspace.database.kept import Found
from backflip.workspace.runs.models import ModelRecord, all_behind
from backflip.workspace.workspace import Workspace


@dataclass(frozen=True, eq=False)
class Lineage:
    """A model and all that it was made from.

    Attributes:
        model: the model.
        snapshot: id of the feedback that it was trained on itself; None for none.
        entries: that feedback.
        parents: the same of the models that it was made from. A model that several were made from
            is one object in all places.
    """

    model: ModelRecord
    snapshot: str | None
    entries: tuple[FeedbackBase, ...]
    parents: tuple["Lineage", ...]

    def walk(self) -> Iterator["Lineage"]:
        """The model and all behind it, each once, nearest first."""
        seen: set[str] = set()
        line: list[Lineage] = [self]
        while line:
            node = line.pop(0)
            if node.model.id not in seen:
                seen.add(node.model.id)
                yield node
                line.extend(node.parents)

    @property
    def all_models(self) -> list[ModelRecord]:
        """The model and all behind it, nearest first."""
        return [node.model for node in self.walk()]

    @property
    def all_snapshots(self) -> list[str]:
        """Every snapshot of feedback behind the model, nearest first."""
        ids = [node.snapshot for node in self.walk() if node.snapshot is not None]
        return list(dict.fromkeys(ids))

    @property
    def all_entries(self) -> list[FeedbackBase]:
        """Every feedback entry behind the model, each once."""
        return list({entry.id: entry for node in self.walk() for entry in node.entries}.values())

    @property
    def annotators(self) -> dict[str, int]:
        """Who stands behind the model, and with how many entries; most first."""
        return dict(Counter(entry.annotator for entry in self.all_entries).most_common())


@dataclass(frozen=True)
class Outline:
    """What a `Lineage` tells without its entries, of which there may be very many.

    Attributes:
        models: all behind the model, nearest first.
        snapshots: every snapshot of feedback behind it, nearest first.
        annotators: who stands behind it, and with how many entries; most first.
    """

    models: tuple[ModelRecord, ...]
    snapshots: tuple[str, ...]
    annotators: dict[str, int]


@dataclass(frozen=True)
class Touched:
    """What entries went into.

    Attributes:
        snapshots: ids of snapshots that hold any of the entries.
        models: models trained on those, and all that were made from them, parents first.
    """

    snapshots: tuple[str, ...]
    models: tuple[ModelRecord, ...]

    @property
    def reward_models(self) -> tuple[ModelRecord, ...]:
        return tuple(model for model in self.models if model.stage == "reward")

    @property
    def policies(self) -> tuple[ModelRecord, ...]:
        """Models that act: those trained on a reward, and on demonstrations before that."""
        return tuple(model for model in self.models if model.stage != "reward")


def lineage(workspace: Workspace, model: str | ModelRecord) -> Lineage:
    """Everything behind a model: models, snapshots, feedback and annotators.

    Args:
        workspace: that holds it.
        model: its record, id, name or the start of its id.

    Raises:
        WorkspaceError: no such model, or a snapshot that was changed from outside.
        DamageError: a model that it was made from is gone.
    """
    wanted = model.id if isinstance(model, ModelRecord) else workspace.models.get(model).id
    nodes = Found[Lineage]({}, "the model {}")
    rows: dict[str, tuple[FeedbackBase, ...]] = {}
    known = workspace.models.all()
    by_id = {record.id: record for record in known}
    needed = {wanted, *all_behind(by_id[wanted], by_id)}
    for record in known:  # parents come before their children
        if record.id in needed:
            snapshot = record.snapshot
            if snapshot is not None and snapshot not in rows:
                rows[snapshot] = tuple(workspace.snapshots.rows(snapshot))
            nodes[record.id] = Lineage(
                model=record,
                snapshot=snapshot,
                entries=rows[snapshot] if snapshot is not None else (),
                parents=tuple(nodes[name] for name in record.parents),
            )
    return nodes[wanted]


def outline(workspace: Workspace, model: ModelRecord) -> Outline:
    """What stands behind a model, as it was counted when the model was registered."""
    known = {record.id: record for record in workspace.models.all()}
    models = [known[name] for name in all_behind(model, known)]
    snapshots = [each.snapshot for each in (model, *models) if each.snapshot is not None]
    return Outline(
        models=tuple(models),
        snapshots=tuple(dict.fromkeys(snapshots)),
        annotators=workspace.models.annotators(model.id),
    )


def touched(workspace: Workspace, entry_ids: Iterable[str]) -> Touched:
    """What entries have gone into so far, and what was made from that in turn.

    Raises:
        WorkspaceError: an unknown entry.
    """
    wanted = list(dict.fromkeys(entry_ids))
    known = workspace.journal.get(wanted)
    if missing := [name for name in wanted if name not in known]:
        raise WorkspaceError(f"no entry {missing[0]!r}", where=str(workspace.root))
    table = schema.snapshot_entries
    snapshots: dict[str, None] = {}
    with workspace.database.read() as connection:
        for chunk in chunks(wanted):
            query = sa.select(schema.snapshots.c.id).join(table).where(table.c.entry_id.in_(chunk))
            found = connection.execute(query.order_by(schema.snapshots.c.number)).scalars()
            snapshots |= dict.fromkeys(found)
    models: dict[str, ModelRecord] = {}
    for record in workspace.models.all():
        if record.snapshot in snapshots or any(name in models for name in record.parents):
            models[record.id] = record
    return Touched(tuple(snapshots), tuple(models.values()))
