"""How good the labels make a reward model, while people still give them."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence

import torch

from backflip.errors import BackflipError
from backflip.loop.stage import Stage
from backflip.loop.stages.query_selection import heldout_seed, picked_samples
from backflip.loop.stages.training_data import usable_entries, without_long
from backflip.records import Sample, derive_seed
from backflip.records.feedback import FeedbackBase
from backflip.rewards import AnnotatorModel, RewardFit, split_by_prompt
from backflip.training import RewardTrainer

MIN_HELDOUT = 5
"""Held-out entries below which no model is trained to be measured on them."""


class InterimReward:
    """Trains a reward model on the answers so far whenever there are so many more of them.

    Each is measured on the held-out prompts, which the lead's pages show, and thrown away: the
    round's own models are trained when its answers are in, and do not depend on these. Nothing
    that goes wrong here ends the run.

    Args:
        stage: the feedback's.
        model: id of the model that reward models grow from.
    """

    def __init__(self, stage: Stage, model: str):
        self._stage = stage
        self._model = model
        self._every = stage.recipe.feedback.retrain_every
        self._done = 0

    def update(self, done: int, enough: Callable[[], bool]) -> None:
        """Train and measure where it is time to.

        Args:
            done: answers of this round so far.
            enough: asked now and then; once it is true, nothing more is trained.
        """
        if not self._every or done - self._done < self._every:
            return
        self._done = done
        over = _now_and_then(enough, self._stage.recipe.feedback.poll_seconds)
        try:
            entries = usable_entries(self._stage)
            samples = self._stage.workspace.samples.get(
                {name for entry in entries for name in entry.sample_ids}
            )
            entries = without_long(self._stage, entries, samples, reward=True)
            for axis in self._stage.recipe.reward.axes:
                of_axis = [entry for entry in entries if entry.axis == axis]
                if over():
                    return
                self._train(axis, of_axis, samples, over)
        except (BackflipError, torch.OutOfMemoryError) as error:
            # Too few answers, one that is too long, a loss that is not finite, a busy database.
            self._stage.reporter.warn(f"{self._stage.key}: no reward model yet: {error}")

    def _train(
        self,
        axis: str,
        entries: Sequence[FeedbackBase],
        samples: Mapping[str, Sample],
        over: Callable[[], bool],
    ) -> None:
        stage, settings = self._stage, self._stage.recipe.reward
        if not entries:
            return
        kept, heldout = split_by_prompt(
            entries,
            samples,
            share=settings.heldout,
            seed=heldout_seed(stage),
            picked=picked_samples(stage.workspace),
        )
        if not kept or len(heldout) < MIN_HELDOUT:
            return
        seed = derive_seed(stage.seed, "interim", axis)
        network = stage.domain.scorer(stage.model_folder(self._model), seed=seed)
        annotators = AnnotatorModel.of(kept, settings)
        fitted = RewardFit(network, annotators, kept, samples, settings, seed)
        trainee = RewardTrainer(fitted, settings)
        for step in range(trainee.num_steps):
            if over():
                return
            trainee.step(step)
        measured = fitted.evaluate(heldout)
        if over():
            return
        keep_scores(stage, axis, fitted.evaluate(kept).scores | measured.scores, measured.scores)
        if measured.accuracy is not None:
            number = len(kept) + len(heldout)
            note_accuracy(stage, axis, number, measured.accuracy, measured.num_decided)
            stage.reporter.say(
                f"{stage.key}: of {measured.num_decided} held-out answers, a reward model of "
                f"{len(kept)} others foresees {measured.accuracy:.0%} ({axis})."
            )


def keep_scores(
    stage: Stage, axis: str, scores: Mapping[str, float], heldout: Collection[str]
) -> None:
    """Keep what reward models say of the samples that people judged, for a lead to hold against it.

    Args:
        stage: in which they were trained.
        axis: on which they judge.
        scores: log odds by sample id.
        heldout: ids of those on which no feedback was trained on.
    """
    workspace = stage.workspace
    workspace.scores.keep(stage.run.id, axis, scores, heldout)
    workspace.reports.want(workspace.projects.ensure(stage.recipe.feedback.project).id)


def note_accuracy(stage: Stage, axis: str, number: int, accuracy: float, decided: float) -> None:
    """Keep how many of the held-out answers a reward model foresees, for the pages to show.

    Args:
        stage: in which it was trained.
        axis: on which it judges.
        number: of the answers that there were.
        accuracy: share of the held-out answers that it foresees.
        decided: how many those are.
    """
    values = {"heldout_accuracy": accuracy, "heldout_answers": decided}
    stage.workspace.metrics.log(stage.run.id, f"{stage.key}/{axis}", number, values)


def _now_and_then(ask: Callable[[], bool], seconds: float) -> Callable[[], bool]:
    """The same question, put to whom it costs no more often than so many seconds."""
    due = 0.0
    answer = False

    def asked() -> bool:
        nonlocal due, answer
        if not answer and time.monotonic() >= due:
            answer = ask()
            due = time.monotonic() + seconds
        return answer

    return asked
