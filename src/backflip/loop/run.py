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
from typing import Any, Concatenate, ParamSpec, TypeVar

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
from backflip.records.plan import (
    BASELINE,
    CHECK,
    EVALUATE,
    FEEDBACK,
    POLICY,
    PREPARING,
    REWARD,
    SAMPLE,
    START,
    StageKind,
    round_of,
    stage_of,
)
from backflip.records.results import EvaluationResult, ModelResult, RewardResult, StageResult
from backflip.reporter import Reporter, Silent
from backflip.training import Domain
from backflip.workspace import Workspace

R = TypeVar("R", bound=StageResult)
P = ParamSpec("P")


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

    def go(self) -> list[EvaluationResult]:
        """Do what is not done yet.

        Returns:
            the evaluation of each round.
        """
        with self.alone():
            return self._go()

    def _go(self) -> list[EvaluationResult]:
        self.begin()
        start = self.prepared()
        baseline = self.stage(BASELINE.name, stages.baseline, start)
        policy: ModelResult = start
        reward: RewardResult | None = None
        results: list[EvaluationResult] = []
        for n in range(1, self.recipe.loop.rounds + 1):
            asked = self.stage(SAMPLE.key(n), stages.sample, policy, reward)
            told = self.stage(FEEDBACK.key(n), stages.feedback, asked, reward, start)
            if isinstance(self.recipe.algorithm, OnlineSettings):
                reward = self.stage(REWARD.key(n), stages.reward, start, told, baseline)
            policy = self.stage(POLICY.key(n), stages.policy, start, policy, told, reward)
            results.append(
                self.stage(EVALUATE.key(n), stages.evaluate, start, baseline, policy, reward)
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

    def prepared(
        self,
        before: StageKind[Any] | None = None,
        snapshot: str | None = None,
        *,
        stage: StageName | None = None,
        rewards: Sequence[str] = (),
    ) -> ModelResult:
        """The model that the rounds begin with: what the recipe makes of the one it starts from.

        Args:
            before: the stage that is still to come; None: none of those that prepare.
            snapshot: of feedback that is learned from; None: what the recipe says.
            stage: the one that is to be done; None: all of them.
            rewards: ids of reward models that this stage is given.
        """
        ahead = PREPARING[: PREPARING.index(before) + 1] if before else PREPARING
        names = [kind.name for kind in ahead]
        model = self.start(snapshot, ahead=names, stage=stage, rewards=rewards)
        for kind in PREPARING:
            if kind is before:
                break
            if getattr(self.recipe, kind.name) is not None:
                model = self.stage(kind.name, stages.PREPARE[kind.name], model)
        return model

    def start(
        self,
        snapshot: str | None = None,
        *,
        ahead: Sequence[str] = tuple(kind.name for kind in PREPARING),
        stage: StageName | None = None,
        rewards: Sequence[str] = (),
    ) -> ModelResult:
        """The stage that finds or makes the model, behind a check of what is to be done.

        Args:
            snapshot: of feedback that is learned from; None: what the recipe says.
            ahead: stages that are still to prepare the model, where the recipe has them.
            stage: the one that is to be done; None: all of them.
            rewards: ids of reward models that this stage is given.
        """
        done = {stage_of(kept.key) for kept in self.workspace.stages.all(self.id) if kept.is_done}
        if START not in done:
            discard_damaged(self.place(START.name), self.reporter.warn)
        # A run that got past its start in a version without checks goes on without one.
        if START not in done or CHECK in done:
            self.check(ahead=ahead, snapshot=snapshot, stage=stage, rewards=rewards)
        start = self.stage(START.name, stages.start)
        self.domain.read_with(self.model_folder(start.model))
        return start

    def check(
        self,
        model: str | None = None,
        ahead: Sequence[str] = tuple(kind.name for kind in PREPARING),
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
        key = content_id(CHECK.name, settings, model, ahead, snapshot, *alone)
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
        """Where a model of the workspace lies; see `Run.model_folder`."""
        return self.run.model_folder(model_id)
