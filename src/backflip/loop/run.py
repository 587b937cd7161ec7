"""The loop: let the policy act, ask what people think, learn the reward, train; again.

    start -> [sample -> feedback -> reward -> policy -> evaluate] x rounds

Every stage has a key and a result, kept in the workspace. A stage that is done is never repeated;
one that was cut off goes on from its last checkpoint. So a run may be killed at any instant and
started again with the same command.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from backflip import __version__
from backflip.algorithms import consumes
from backflip.errors import FREE_SPACE, WorkspaceError, why_not_written
from backflip.loop import stages
from backflip.loop.kept_files import discard_damaged
from backflip.loop.known import changes
from backflip.loop.scope import StageName
from backflip.loop.stage import StagedRun
from backflip.records import content_id
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
    stage_of,
)
from backflip.records.results import EvaluationResult, ModelResult, RewardResult


class Run(StagedRun):
    """One recipe in one workspace, from its start to its last evaluation."""

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
            if consumes(self.recipe.algorithm) == "rollouts":
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

        The system lets go of the lock when the process ends, however it ends. A network file
        system that tells other machines of locks keeps these away too; one that has no locks is
        refused, and one that keeps them from other machines cannot be told from a disk.

        Raises:
            WorkspaceError: another process is; or the lock cannot be written.
        """
        folder = self.workspace.artifacts / "runs" / self.id
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # A file whose being there is the lock would outlive a process that is killed.
            lock = FileLock(folder / "lock", blocking=False, fallback_to_soft=False)
            lock.acquire()
        except Timeout:
            raise WorkspaceError(
                f"another process is working on run {self.id}",
                where=str(folder),
                hint="Wait for it, or stop it; a run goes on where it stopped.",
            ) from None
        except OSError as error:
            raise _no_lock(folder, error) from error
        try:
            yield
        finally:
            lock.release()

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


def _no_lock(folder: Path, error: OSError) -> WorkspaceError:
    return WorkspaceError(
        f"the run's lock {why_not_written(error)}", where=str(folder / "lock"), hint=FREE_SPACE
    )
