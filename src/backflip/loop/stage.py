"""What stages share: the parts of a run, results that are kept, and a folder of files each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from backflip.errors import DamageError, WorkspaceError
from backflip.loop.kept_files import ANEW, discard, require_kept
from backflip.loop.known import run_of
from backflip.loop.recipe import Recipe
from backflip.models.files import read_record
from backflip.records import derive_seed
from backflip.records.plan import (
    StageKind,
    round_of,
    stage_of,
)
from backflip.records.results import StageResult
from backflip.reporter import Reporter, Silent
from backflip.training import Domain
from backflip.workspace import Workspace

R = TypeVar("R", bound=StageResult)
P = ParamSpec("P")


class StagedRun:
    """One recipe in one workspace: its stages, their results and where their files lie."""

    def __init__(
        self,
        workspace: Workspace,
        recipe: Recipe,
        domain: Domain,
        reporter: Reporter | None = None,
    ):
        self.workspace = workspace
        self.recipe = recipe
        self.domain = domain
        self.reporter = reporter or Silent()
        self.id = run_of(recipe, workspace)

    @property
    def run_id(self) -> str:
        """Its id, by the name that a stage knows it by."""
        return self.id

    def model_folder(self, model_id: str) -> Path:
        """Where a model of the workspace lies.

        Raises:
            WorkspaceError: its files are gone.
            DamageError: one of them is not what was written, or is of another model.
        """
        models = self.workspace.models
        record = models.get(model_id)
        folder = models.folder(record)
        if not folder.is_dir():
            raise WorkspaceError(
                f"the files of model {model_id} are missing", where=str(folder), hint=ANEW
            )
        require_kept(folder, f"model {record.name}")
        if record.path == f"models/{model_id}":
            named = read_record(folder).get("model", model_id)
            if named != model_id:
                raise DamageError(f"holds model {named}", where=str(folder), hint=ANEW)
        return folder

    def place(self, key: str) -> Path:
        """Where the files of a stage lie."""
        return self.workspace.artifacts / "runs" / self.id / key

    def stage(
        self,
        key: str,
        work: Callable[Concatenate["Stage", P], R],
        *inputs: P.args,
        **named: P.kwargs,
    ) -> R:
        """The result of a stage as it is kept, now or since it was done.

        Raises:
            DamageError: what is kept is not what was written.
        """
        kind: StageKind[Any] | None = stage_of(key)
        if kind is None:
            raise ValueError(f"no stage of the plan has the key {key!r}")
        kept, stage = self.workspace.stages, Stage(self, key)
        result: R | None = kept.result(self.id, key, kind)
        if result is None:
            kept.begin(self.id, key)
            result = kept.finish(self.id, key, work(stage, *inputs, **named))
        discard(stage.folder)
        return result


class Stage:
    """What the work of one stage may use: the parts of the run, a seed and a folder of its own."""

    def __init__(self, run: StagedRun, key: str):
        self.run = run
        self.key = key
        self.workspace = run.workspace
        self.recipe = run.recipe
        self.domain = run.domain
        self.reporter = run.reporter
        self.run_id = run.id
        self.seed = derive_seed(run.recipe.seed, key)

    @property
    def round(self) -> int:
        """The number of the round that the stage belongs to; a `ValueError` where it is of none."""
        number = round_of(self.key)
        if number is None:
            raise ValueError(f"{self.key} is of no round")
        return number

    @property
    def folder(self) -> Path:
        """Where the checkpoints of this stage lie."""
        return self.run.place(self.key)

    def model_folder(self, model_id: str) -> Path:
        """Where a model of the workspace lies; see `StagedRun.model_folder`."""
        return self.run.model_folder(model_id)
