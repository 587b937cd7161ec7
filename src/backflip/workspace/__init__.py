"""The workspace: every prompt, sample, answer, model, run and metric, on SQLite or PostgreSQL.

What was acknowledged is on disk; several processes may use one workspace at once.

with Workspace.create(Path("work")) as ws:
    ws.samples.add(samples)
    ws.journal.add([Comparison(annotator="mia", samples=(a.id, b.id), choice="a")])
    snapshot = ws.snapshots.take([entry.id for entry in ws.journal.active()])
"""

from backflip.workspace.accounts.people import Invite, People, Session, Token, User
from backflip.workspace.labelling.batches import Batches, TaskBatch
from backflip.workspace.labelling.queue import Queue
from backflip.workspace.labelling.tasks import Progress, Standing, Task
from backflip.workspace.labelling.volunteered_feedback import VolunteeredFeedback, VolunteeredIn
from backflip.workspace.lineage import Lineage, Outline, Touched, lineage, outline, touched
from backflip.workspace.material.annotators import Annotator, Annotators
from backflip.workspace.material.journal import Journal, JournalRow, JournalStats
from backflip.workspace.material.prompts import Prompts
from backflip.workspace.material.samples import Samples
from backflip.workspace.material.snapshots import Snapshot, Snapshots
from backflip.workspace.privacy.erasing import Erased, erase
from backflip.workspace.privacy.forgetting import (
    Fate,
    Forgotten,
    forget_member,
    forget_user,
    known_person,
)
from backflip.workspace.projects.projects import (
    MAIN,
    Guideline,
    Project,
    Projects,
    ProjectSettings,
    Role,
)
from backflip.workspace.runs.metrics import Metrics, Series
from backflip.workspace.runs.models import ModelRecord, Models, ModelStage
from backflip.workspace.runs.runs import RunRecord, Runs, StageRecord, Stages
from backflip.workspace.services.chats import Chat, Chats
from backflip.workspace.services.generations import Generation, Generations
from backflip.workspace.workspace import Workspace

__all__ = [
    "MAIN",
    "Annotator",
    "Annotators",
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
    "Progress",
    "Project",
    "ProjectSettings",
    "Projects",
    "Prompts",
    "Queue",
    "Role",
    "RunRecord",
    "Runs",
    "Samples",
    "Series",
    "Session",
    "Snapshot",
    "Snapshots",
    "StageRecord",
    "Stages",
    "Standing",
    "Task",
    "TaskBatch",
    "Token",
    "Touched",
    "User",
    "VolunteeredFeedback",
    "VolunteeredIn",
    "Workspace",
    "erase",
    "forget_member",
    "forget_user",
    "known_person",
    "lineage",
    "outline",
    "touched",
]
