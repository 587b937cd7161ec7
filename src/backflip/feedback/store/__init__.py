"""The workspace: every prompt, sample, answer, model, run and metric, on SQLite or PostgreSQL.

What was acknowledged is on disk; several processes may use one workspace at once.

with Workspace.create(Path("work")) as ws:
    ws.samples.add(samples)
    ws.journal.add([Comparison(annotator="mia", samples=(a.id, b.id), choice="a")])
    snapshot = ws.snapshots.take([entry.id for entry in ws.journal.active()])
"""

from backflip.feedback.store.annotators import Annotator, Annotators
from backflip.feedback.store.asides import Asides, Place
from backflip.feedback.store.batches import Batch, Batches
from backflip.feedback.store.chats import Chat, Chats
from backflip.feedback.store.erasing import Erased, erase
from backflip.feedback.store.forgetting import (
    Fate,
    Forgotten,
    forget_member,
    forget_user,
    known_person,
)
from backflip.feedback.store.generations import Generation, Generations
from backflip.feedback.store.journal import Journal, JournalRow, JournalStats
from backflip.feedback.store.lineage import Lineage, Outline, Touched, lineage, outline, touched
from backflip.feedback.store.metrics import Metrics, Series
from backflip.feedback.store.models import ModelRecord, Models, ModelStage
from backflip.feedback.store.people import Invite, People, Session, Token, User
from backflip.feedback.store.projects import (
    MAIN,
    Guideline,
    Project,
    Projects,
    ProjectSettings,
    Role,
)
from backflip.feedback.store.prompts import Prompts
from backflip.feedback.store.queue import Queue
from backflip.feedback.store.runs import Run, Runs, Stage, Stages
from backflip.feedback.store.samples import Samples
from backflip.feedback.store.snapshots import Snapshot, Snapshots
from backflip.feedback.store.tasks import Progress, Standing, Task
from backflip.feedback.store.workspace import Workspace

__all__ = [
    "MAIN",
    "Annotator",
    "Annotators",
    "Asides",
    "Batch",
    "Batches",
    "Chat",
    "Chats",
    "Erased",
    "Fate",
    "Forgotten",
    "Generation",
    "Generations",
    "Guideline",
    "Invite",
    "Journal",
    "JournalRow",
    "JournalStats",
    "Lineage",
    "Metrics",
    "ModelRecord",
    "ModelStage",
    "Models",
    "Outline",
    "People",
    "Place",
    "Progress",
    "Project",
    "ProjectSettings",
    "Projects",
    "Prompts",
    "Queue",
    "Role",
    "Run",
    "Runs",
    "Samples",
    "Series",
    "Session",
    "Snapshot",
    "Snapshots",
    "Stage",
    "Stages",
    "Standing",
    "Task",
    "Token",
    "Touched",
    "User",
    "Workspace",
    "erase",
    "forget_member",
    "forget_user",
    "known_person",
    "lineage",
    "outline",
    "touched",
]
