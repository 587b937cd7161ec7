"""The loop: let the policy act, ask what people think, learn the reward, train; again.

    start -> [sample -> feedback -> reward -> policy -> evaluate] x rounds

Every stage has a key and a result, kept in the workspace. A stage that is done is never repeated;
one that was cut off goes on from its last checkpoint. So a run may be killed at any instant and
started again with the same command.
"""

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backflip import __version__
from backflip.algorithms import OnlineSettings
from backflip.errors import FREE_SPACE, DamageError, WorkspaceError, why_not_written
from backflip.loop import stages
from backflip.loop.known import changes, run_of
from backflip.loop.recipe import Recipe
from backflip.loop.scope import StageName
from backflip.loop.stages.model_registration import ANEW, discard_damaged, require_kept
from backflip.models.files import read_record
from backflip.records import content_id, derive_seed
from backflip.reporter import Reporter, Silent
from backflip.training import Domain
from backflip.workspace import Workspace

Result = dict[str, Any]
CHECK = "check"
"""How the keys of checks begin."""
PREPARING = ("pretrain", "sft")


class Run:
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

    def go(self) -> list[Result]:
        """Do what is not done yet.

        Returns:
            the evaluation of each round.
        """
        with self.alone():
            return self._go()

    def _go(self) -> list[Result]:
        recipe = self.recipe
        self.begin()
        start = self.start()
        if recipe.pretrain is not None:
            start = self.stage("pretrain", stages.pretrain, start)
        if recipe.sft is not None:
            start = self.stage("sft", stages.sft, start)
        baseline = self.stage("baseline", stages.baseline, start)
        policy, reward, results = start, None, []
        for number in range(1, recipe.loop.rounds + 1):
            key = f"round-{number}"
            asked = self.stage(f"{key}/sample", stages.sample, policy, reward)
            told = self.stage(f"{key}/feedback", stages.feedback, asked, reward, start)
            if isinstance(recipe.algorithm, OnlineSettings):
                reward = self.stage(f"{key}/reward", stages.reward, start, told, baseline)
            policy = self.stage(f"{key}/policy", stages.policy, start, policy, told, reward)
            results.append(
                self.stage(f"{key}/evaluate", stages.evaluate, start, baseline, policy, reward)
            )
        self.workspace.runs.finish(self.id)
        return results

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from working on this run at the same time.

        Raises:
            WorkspaceError: another process is; or the lock cannot be written.
        """
        folder = self.workspace.artifacts / "runs" / self.id
        try:
            folder.mkdir(parents=True, exist_ok=True)
            opened = (folder / "lock").open("w")
        except OSError as error:
            raise _no_lock(folder, error) from error
        with opened as file:
            try:
                # The system lets go of it when the process ends, however it ends.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WorkspaceError(
                    f"another process is working on run {self.id}",
                    where=str(folder),
                    hint="Wait for it, or stop it; a run goes on where it stopped.",
                ) from None
            except OSError as error:
                raise _no_lock(folder, error) from error
            yield

    def begin(self) -> None:
        """Enter the run in the workspace, or its settings where knobs were turned meanwhile."""
        recipe, runs = self.recipe, self.workspace.runs
        resolved = recipe.model_dump(mode="json")
        known = next((run.recipe for run in runs.all() if run.id == self.id), resolved)
        if known != resolved:
            if told := changes(known, resolved):
                self.reporter.say(f"Going on with {self.id}, with {', '.join(told)}.")
            runs.change_recipe(self.id, resolved)
        runs.start(self.id, recipe.name, resolved, __version__)

    def start(
        self,
        snapshot: str | None = None,
        *,
        ahead: Sequence[str] = PREPARING,
        stage: StageName | None = None,
        rewards: Sequence[str] = (),
    ) -> Result:
        """The stage that finds or makes the model, behind a check of what is to be done.

        Args:
            snapshot: of feedback that is learned from; None: what the recipe says.
            ahead: stages that are still to prepare the model, where the recipe has them.
            stage: the one that is to be done; None: all of them.
            rewards: ids of reward models that this stage is given.
        """
        begun = {kept.key for kept in self.workspace.stages.all(self.id) if kept.result is not None}
        if "start" not in begun:
            discard_damaged(self.place("start"), self.reporter.warn)
        # A run that got past its start in a version without checks goes on without one.
        if "start" not in begun or any(key.startswith(CHECK) for key in begun):
            self.check(ahead=ahead, snapshot=snapshot, stage=stage, rewards=rewards)
        start = self.stage("start", stages.start)
        self.domain.read_with(self.model_folder(start["model"]))
        return start

    def check(
        self,
        model: str | None = None,
        ahead: Sequence[str] = PREPARING,
        snapshot: str | None = None,
        *,
        stage: StageName | None = None,
        rewards: Sequence[str] = (),
    ) -> None:
        """See, once for these settings, that all that is asked for can be done.

        Args:
            model: id of the model that work begins with; None: the recipe's.
            ahead: stages that are still to prepare that model, where the recipe has them.
            snapshot: of feedback that is learned from; None: what the recipe says.
            stage: the one that is to be done; None: all of them.
            rewards: ids of reward models that this stage is given.

        Raises:
            SettingsError: something cannot; it lists everything.
        """
        settings = self.recipe.model_dump(mode="json")
        alone = () if stage is None else (stage, rewards)
        key = content_id(CHECK, settings, model, ahead, snapshot, *alone)
        self.stage(key, stages.check, model, ahead, snapshot, stage, rewards)

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

    def stage(self, key: str, work: Callable[..., Result], *inputs: Any) -> Result:
        """The result of a stage: the one that is kept, or that of doing it now."""
        result = self.workspace.stages.result(self.id, key)
        stage = Stage(self, key)
        if result is None:
            self.workspace.stages.begin(self.id, key)
            result = work(stage, *inputs)
            self.workspace.stages.finish(self.id, key, result)
        stages.discard(stage.folder)
        return result


def _no_lock(folder: Path, error: OSError) -> WorkspaceError:
    return WorkspaceError(
        f"the run's lock {why_not_written(error)}", where=str(folder / "lock"), hint=FREE_SPACE
    )


class Stage:
    """What the work of one stage may use: the parts of the run, a seed and a folder of its own."""

    def __init__(self, run: Run, key: str):
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
        """The number of the round that the stage belongs to."""
        return int(self.key.split("/")[0].removeprefix("round-"))

    @property
    def folder(self) -> Path:
        """Where the checkpoints of this stage lie."""
        return self.run.place(self.key)

    def model_folder(self, model_id: str) -> Path:
        """Where a model of the workspace lies; see `Run.model_folder`."""
        return self.run.model_folder(model_id)
