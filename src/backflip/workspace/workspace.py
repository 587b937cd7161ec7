"""The workspace: a folder with a database and artifacts.

Its files:

work/
  workspace.json   says that this is a workspace, and where its database is
  backflip.db      the database, unless it is on PostgreSQL
  artifacts/       models, images, reports and other files
"""

import json
from pathlib import Path
from types import TracebackType
from typing import Self

from backflip.errors import (
    FREE_SPACE,
    RIGHTS,
    WorkspaceError,
    reaching,
    why_not_read,
    why_not_written,
)
from backflip.files.durable import whole_file
from backflip.records import Record
from backflip.workspace.accounts.people import People
from backflip.workspace.database import columns
from backflip.workspace.database.addresses import postgresql_url, sqlite_url
from backflip.workspace.database.engine import Database, damaged_database
from backflip.workspace.labelling.adjudication import Adjudications
from backflip.workspace.labelling.batches import Batches
from backflip.workspace.labelling.queue import Queue
from backflip.workspace.labelling.reports import Reports
from backflip.workspace.labelling.volunteered_feedback import VolunteeredFeedback
from backflip.workspace.material.annotators import Annotators
from backflip.workspace.material.journal import Journal
from backflip.workspace.material.media import Media
from backflip.workspace.material.prompts import Prompts
from backflip.workspace.material.samples import Samples
from backflip.workspace.material.snapshots import Snapshots
from backflip.workspace.projects.projects import Projects
from backflip.workspace.projects.webhooks import Webhooks
from backflip.workspace.runs.metrics import Metrics
from backflip.workspace.runs.models import Models
from backflip.workspace.runs.runs import Runs, Stages
from backflip.workspace.runs.scores import Scores
from backflip.workspace.services.chats import Chats
from backflip.workspace.services.generations import Generations
from backflip.workspace.services.servers import Servers

MARKER = "workspace.json"
DATABASE = "backflip.db"
_FORMAT = 1


class Marker(Record):
    """What makes a folder a workspace.

    Attributes:
        format: of the folder.
        database: its address; None for SQLite in the folder.
        id: what the database calls itself too; None in workspaces made before it was kept.
    """

    format: int
    database: str | None
    id: str | None = None


class Workspace:
    """All that a project keeps. Several processes, and on PostgreSQL several machines, may use one.

    Open it with `create` or `open`, and close it, or use it in a `with` block. A process that
    forks opens its own.

    Attributes:
        root: the folder.
        artifacts: folder of the files that the rows speak of.
        media: the images among them.
        prompts, samples, annotators, journal, snapshots, models, runs, stages, metrics, people,
            projects, batches, queue, adjudications, generations, chats, reports, scores, servers,
            webhooks: the rows, each by its repository.
    """

    def __init__(self, root: Path, database: Database):
        self.root = root
        self.artifacts = root / "artifacts"
        self.database = database
        self.media = Media(database, self.artifacts)
        self.prompts = Prompts(database, self.media)
        self.samples = Samples(database, self.media)
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
        self.adjudications = Adjudications(database)
        self.volunteered = VolunteeredFeedback(database)
        self.chats = Chats(database)

    @classmethod
    @reaching(WorkspaceError)
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
    @reaching(WorkspaceError)
    def open(cls, folder: str | Path, create: bool = False, *, timeout: float = 30.0) -> Self:
        """Open a workspace; an older schema is brought up to date.

        Args:
            folder: the workspace.
            create: make one, on SQLite, where there is none.
            timeout: seconds to wait for another process's lock.

        Raises:
            WorkspaceError: no workspace there, none that may be read, one written by a newer
                Backflip, or a database that cannot be reached, stays locked, has no tables or is
                another workspace's.
        """
        root = Path(folder).resolve()
        if not (root / MARKER).is_file():
            if not create:
                raise WorkspaceError(
                    "no workspace here", where=str(root), hint="Make one, or name another folder."
                )
            return cls._make(root, None, timeout)
        marker = read_marker(root / MARKER)
        if marker.database is None and not (root / DATABASE).is_file():
            raise WorkspaceError(
                f"the workspace's {DATABASE} is missing", where=str(root), hint=columns.DOCTOR
            )
        if marker.database is None and not (root / DATABASE).stat().st_size:
            # Before SQLite makes a database of it, in which nothing would be missing.
            raise damaged_database("it is empty", str(root / DATABASE))
        opened = cls._connect(root, marker.database, timeout, new=False)
        try:
            opened._require_own(marker)
        except BaseException:
            opened.close()
            raise
        return opened

    def _require_own(self, marker: Marker) -> None:
        """Refuse the database of another workspace; those made before ids were kept have none."""
        if marker.id is not None and self.database.identity() != marker.id:
            raise WorkspaceError(
                f"holds the rows of another workspace, not of {marker.id}",
                where=self.database.where,
                hint=columns.DOCTOR,
            )

    @classmethod
    def _make(cls, root: Path, address: str | None, timeout: float) -> Self:
        try:
            (root / "artifacts").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkspaceError(
                f"the folder cannot be made: {error.strerror or error}",
                where=str(root),
                hint=FREE_SPACE,
            ) from error
        made = cls._connect(root, address, timeout, new=True)
        try:
            # The marker comes last: a workspace that was cut off while it was made is none yet.
            marker = Marker(format=_FORMAT, database=address, id=made.database.identify())
            _write_marker(root / MARKER, marker)
        except BaseException:
            made.close()
            raise
        return made

    @classmethod
    def _connect(cls, root: Path, address: str | None, timeout: float, *, new: bool) -> Self:
        url = sqlite_url(root / DATABASE) if address is None else postgresql_url(address)
        database = Database(url, timeout=timeout)
        try:
            database.migrate(new=new)
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


def read_marker(path: Path) -> Marker:
    """What a workspace says of itself.

    Raises:
        WorkspaceError: it cannot be read, or was written by a newer Backflip.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        number = found["format"]
    except OSError as error:
        hint = RIGHTS if isinstance(error, PermissionError) else columns.DOCTOR
        raise WorkspaceError(why_not_read(error), where=str(path), hint=hint) from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise WorkspaceError("cannot be read", where=str(path), hint=columns.DOCTOR) from error
    if number != _FORMAT:
        raise WorkspaceError(
            f"written by a newer Backflip: its format is {number}, this program knows {_FORMAT}",
            where=str(path),
            hint="Install the newer Backflip: pip install --upgrade backflip",
        )
    try:
        return Marker.model_validate(found)
    except ValueError as error:
        raise WorkspaceError("cannot be read", where=str(path), hint=columns.DOCTOR) from error


def _write_marker(path: Path, marker: Marker) -> None:
    """Write whole or not at all; an address may hold a password, so only the owner reads one."""
    mode = 0o666 if marker.database is None else 0o600
    try:
        with whole_file(path, mode=mode) as file:
            file.write((marker.model_dump_json(indent=2) + "\n").encode())
    except OSError as error:
        raise WorkspaceError(why_not_written(error), where=str(path), hint=FREE_SPACE) from error
