"""The loop: let the policy act, ask what people think, learn the reward, train; again.

    start -> [sample -> feedback -> reward -> policy -> evaluate] x rounds

Every stage has a key and a result, kept in the workspace. A stage that is done is never repeated;
one that was cut off goes on from its last checkpoint. So a run may be killed at any instant and
started again with the same command.
"""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backflip import __version__
from backflip.algorithms import OnlineSettings
from backflip.errors import FREE_SPACE, WorkspaceError, why_not_written
from backflip.feedback.store import Workspace
from backflip.loop import stages
from backflip.loop.recipe import Recipe
from backflip.loop.reporter import Reporter, Silent
from backflip.records import derive_seed
from backflip.training import Domain

Result = dict[str, Any]


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
        self.id = recipe.run_id

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
        start = self.stage("start", stages.start)
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
        """Enter the run in the workspace; again changes nothing."""
        recipe = self.recipe
        self.workspace.runs.start(self.id, recipe.name, recipe.model_dump(mode="json"), __version__)

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
        self.seed = derive_seed(run.recipe.seed, key)

    @property
    def round(self) -> int:
        """The number of the round that the stage belongs to."""
        return int(self.key.split("/")[0].removeprefix("round-"))

    @property
    def folder(self) -> Path:
        """Where the checkpoints of this stage lie."""
        return self.workspace.artifacts / "runs" / self.run.id / self.key

    def model_folder(self, model_id: str) -> Path:
        """Where a model of the workspace lies.

        Raises:
            WorkspaceError: its files are gone.
        """
        models = self.workspace.models
        folder = models.folder(models.get(model_id))
        if not folder.is_dir():
            raise WorkspaceError(
                f"the files of model {model_id} are missing",
                where=str(folder),
                hint="Restore the folder, or start a new run with another seed.",
            )
        return folder
