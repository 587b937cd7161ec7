"""The workspace: a folder with a database and artifacts.

Its files:

work/
  workspace.json   says that this is a workspace, and where its database is
  backflip.db      the database, unless it is on PostgreSQL
  artifacts/       models, reports and other files
"""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from backflip.errors import WorkspaceError
from backflip.feedback.store.annotators import Annotators
from backflip.feedback.store.asides import Asides
from backflip.feedback.store.batches import Batches
from backflip.feedback.store.chats import Chats
from backflip.feedback.store.database import Database, postgresql_url, sqlite_url
from backflip.feedback.store.generations import Generations
from backflip.feedback.store.journal import Journal
from backflip.feedback.store.metrics import Metrics
from backflip.feedback.store.models import Models
from backflip.feedback.store.people import People
from backflip.feedback.store.projects import Projects
from backflip.feedback.store.prompts import Prompts
from backflip.feedback.store.queue import Queue
from backflip.feedback.store.reports import Reports
from backflip.feedback.store.runs import Runs, Stages
from backflip.feedback.store.samples import Samples
from backflip.feedback.store.scores import Scores
from backflip.feedback.store.servers import Servers
from backflip.feedback.store.snapshots import Snapshots
from backflip.feedback.store.webhooks import Webhooks

MARKER = "workspace.json"
_FORMAT = 1


class Workspace:
    """All that a project keeps. Several processes, and on PostgreSQL several machines, may use one.

    Open it with `create` or `open`, and close it, or use it in a `with` block. A process that
    forks opens its own.

    Attributes:
        root: the folder.
        artifacts: folder of the files that the rows speak of.
        prompts, samples, annotators, journal, snapshots, models, runs, stages, metrics, people,
            projects, batches, queue, generations, chats, reports, scores, servers, webhooks: the
            rows, each by its repository.
    """

    def __init__(self, root: Path, database: Database):
        self.root = root
        self.artifacts = root / "artifacts"
        self.database = database
        self.prompts = Prompts(database)
        self.samples = Samples(database)
        self.annotators = Annotators(database)
        self.journal = Journal(database)
        self.snapshots = Snapshots(database)
        self.models = Models(database, self.artifacts)
        self.runs = Runs(database)
        self.stages = Stages(database)
        self.metrics = Metrics(database)
        self.people = People(database)
        self.projects = Projects(database)
        self.batches = Batches(database)
        self.queue = Queue(database)
        self.reports = Reports(database)
        self.scores = Scores(database)
        self.servers = Servers(database)
        self.webhooks = Webhooks(database)
        self.generations = Generations(database)
        self.asides = Asides(database)
        self.chats = Chats(database)

    @classmethod
    def create(
        cls, folder: str | Path, database: str | None = None, *, timeout: float = 30.0
    ) -> Self:
        """Make a workspace.

        Args:
            folder: is made where it is missing.
            database: a `postgresql://` address; None for SQLite in the folder.
            timeout: seconds to wait for another process's lock.

        Raises:
            WorkspaceError: the folder is a workspace already or cannot be written, or the
                database cannot be reached.
        """
        root = Path(folder).resolve()
        if (root / MARKER).exists():
            raise WorkspaceError("is a workspace already", where=str(root), hint="Open it instead.")
        return cls._make(root, database, timeout)

    @classmethod
    def open(cls, folder: str | Path, create: bool = False, *, timeout: float = 30.0) -> Self:
        """Open a workspace; an older schema is brought up to date.

        Args:
            folder: the workspace.
            create: make one, on SQLite, where there is none.
            timeout: seconds to wait for another process's lock.

        Raises:
            WorkspaceError: no workspace there, one written by a newer Backflip, or a database
                that cannot be reached or stays locked.
        """
        root = Path(folder).resolve()
        if not (root / MARKER).is_file():
            if not create:
                raise WorkspaceError(
                    "no workspace here", where=str(root), hint="Make one, or name another folder."
                )
            return cls._make(root, None, timeout)
        address = _read_marker(root / MARKER)
        if address is None and not (root / "backflip.db").is_file():
            raise WorkspaceError("the workspace's backflip.db is missing", where=str(root))
        return cls._connect(root, address, timeout)

    @classmethod
    def _make(cls, root: Path, address: str | None, timeout: float) -> Self:
        try:
            (root / "artifacts").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkspaceError(
                f"the folder cannot be made: {error.strerror}", where=str(root)
            ) from error
        made = cls._connect(root, address, timeout)
        # The marker comes last: a workspace that was cut off while it was made is none yet.
        _write_marker(root / MARKER, {"format": _FORMAT, "database": address})
        return made

    @classmethod
    def _connect(cls, root: Path, address: str | None, timeout: float) -> Self:
        url = sqlite_url(root / "backflip.db") if address is None else postgresql_url(address)
        database = Database(url, timeout=timeout)
        try:
            database.migrate()
        except BaseException:
            database.close()
            raise
        return cls(root, database)

    def close(self) -> None:
        """Let go of the database; every acknowledged row is on disk long before."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _read_marker(path: Path) -> str | None:
    """The database's address; None for SQLite."""
    try:
        marker = json.loads(path.read_text(encoding="utf-8"))
        found, address = marker["format"], marker["database"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise WorkspaceError("cannot be read", where=str(path)) from error
    if found != _FORMAT or not isinstance(address, str | None):
        raise WorkspaceError(
            f"written by a newer Backflip: its format is {found}, this program knows {_FORMAT}",
            where=str(path),
            hint="Install the newer Backflip: pip install --upgrade backflip",
        )
    return address


def _write_marker(path: Path, marker: dict[str, Any]) -> None:
    """Write whole or not at all; the address may hold a password, so only the owner reads it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(json.dumps(marker, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
