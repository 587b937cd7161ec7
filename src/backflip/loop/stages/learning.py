"""Learning a reward from what people said, and training the policy on it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save

from backflip.algorithms import (
    make_algorithm,
    type_of,
)
from backflip.errors import BackflipError, TrainingError
from backflip.evaluation import (
    doubt_of_reward,
    holding_lines,
    holdings,
    reward_report,
    tells_apart,
)
from backflip.files.folders import new_folder
from backflip.loop.domains import model_place
from backflip.loop.kept_files import ANEW, require_kept
from backflip.loop.stage import Stage
from backflip.loop.stages.interim import keep_scores, note_accuracy
from backflip.loop.stages.model_registration import keep_model, made_here, train
from backflip.loop.stages.monitoring import PolicyMonitor, usual_length
from backflip.loop.stages.query_selection import heldout_seed, picked_samples
from backflip.loop.stages.training_data import learned_from
from backflip.models.files import read_tensors
from backflip.records import Sample, derive_seed
from backflip.records.feedback import FeedbackBase
from backflip.records.figures import RewardReport
from backflip.records.results import (
    FeedbackResult,
    ModelResult,
    PolicyResult,
    RewardModels,
    RewardResult,
    RolloutResult,
    SnapshotResult,
)
from backflip.rewards import (
    AnnotatorModel,
    EnsembleReward,
    GatedReward,
    MixtureReward,
    Reward,
    RewardFit,
    split_by_prompt,
)
from backflip.training import (
    RewardTrainer,
    decided_pairs,
)
from backflip.training.learner import ValueModel
from backflip.training.trainers.policy import PolicyParts, make_trainer
from backflip.training.trainers.preference import Pair

Samples = Mapping[str, Sample]
WEIGHTS = "weights.safetensors"


def reward(
    stage: Stage, start: ModelResult, told: SnapshotResult, baseline: RolloutResult
) -> RewardResult:
    """Train the reward models of every axis on a snapshot of feedback.

    One that is not shown to beat chance is warned of, and trained on all the same.

    Raises:
        TrainingError: nobody answered, there is no feedback on an axis, or nothing of it tells two
            samples apart.
    """
    entries, samples = _answers(stage, told, reward=True)
    reference = stage.workspace.samples.get(baseline.samples)
    models: dict[str, tuple[str, ...]] = {}
    reports: dict[str, RewardReport] = {}
    for axis, of_axis in _by_axis(entries, stage.recipe.reward.axes).items():
        models[axis], reports[axis] = _train_axis(
            stage, axis, of_axis, samples, list(reference.values()), start, told.snapshot
        )
        if doubt := doubt_of_reward(axis, reports[axis]):
            stage.reporter.warn(f"{stage.key}: {doubt}.")
    return RewardResult(rewards=models, snapshot=told.snapshot, reports=reports)


def _answers(
    stage: Stage, told: SnapshotResult, *, reward: bool
) -> tuple[list[FeedbackBase], dict[str, Sample]]:
    """The entries that a round learns from, of which there is one at least, and their samples."""
    entries, samples = learned_from(stage, told.snapshot, reward=reward)
    if not entries:
        skipped = _skipped(told)
        some = "the one question was" if skipped == 1 else f"all {skipped} questions were"
        raise TrainingError(
            "nobody answered, so there is nothing to learn from"
            + (f": {some} skipped" if skipped else ""),
            where="feedback",
            hint="A run of another recipe may do better: with other annotators or kinds, a "
            "question that they can answer, or samples that differ more (sampling.temperature).",
        )
    return entries, samples


def _skipped(told: SnapshotResult) -> int:
    """The number of questions that nobody answered, where any were asked for this."""
    return told.skipped if isinstance(told, FeedbackResult) else 0


def _by_axis(entries: Sequence[FeedbackBase], axes: Sequence[str]) -> dict[str, list[FeedbackBase]]:
    """The entries of each axis, of which those of one at least tell samples apart."""
    found = {axis: [entry for entry in entries if entry.axis == axis] for axis in axes}
    for axis, of_axis in found.items():
        if not of_axis:
            known = sorted({entry.axis for entry in entries})
            raise TrainingError(
                f"there is no feedback on axis {axis!r}",
                where="reward.axes",
                hint=f"The snapshot has feedback on: {', '.join(known)}.",
            )
    held = {axis: holdings(of_axis) for axis, of_axis in found.items()}
    if not any(map(tells_apart, held.values())):
        told = "; ".join(f"{axis}: {line}" for axis in held for line in holding_lines(held[axis]))
        raise TrainingError(
            f"no answer tells two samples apart, so there is no reward to learn: {told}",
            where="feedback",
            hint="A run of another recipe may do better: with another judge or criterion, other "
            "annotators or kinds, more prompts, or samples that differ more "
            "(sampling.temperature).",
        )
    return found


def _train_axis(
    stage: Stage,
    axis: str,
    entries: Sequence[FeedbackBase],
    samples: Samples,
    reference: Sequence[Sample],
    start: ModelResult,
    snapshot: str,
) -> tuple[tuple[str, ...], RewardReport]:
    """The ensemble of one axis: ids of its members, and how good they are together."""
    settings = stage.recipe.reward
    kept, heldout = split_by_prompt(
        entries,
        samples,
        share=settings.heldout,
        seed=heldout_seed(stage),
        picked=picked_samples(stage.workspace),
    )
    ids: list[str] = []
    members: list[dict[str, float]] = []
    of_trained: list[dict[str, float]] = []
    reliabilities: list[dict[str, float]] = []
    for member in range(settings.ensemble):
        seed = derive_seed(stage.seed, axis, member)
        network = stage.domain.scorer(stage.model_folder(start.model), seed=seed)
        annotators = AnnotatorModel.of(kept, settings)
        fitted = RewardFit(network, annotators, kept, samples, settings, seed)
        part = f"{axis}-{member}"
        title = f"reward model {part}" if len(settings.axes) * settings.ensemble > 1 else "reward"
        metrics: dict[str, Any] = train(
            stage, RewardTrainer(fitted, settings), title=title, part=part
        )
        if settings.mixture.mode == "gated" and axis == settings.mixture.safe:
            # The gate's threshold is a log odds of being safe, so the score must stay one.
            network.normalise_by(annotators.threshold("safe").item(), 1.0)
        else:
            network.normalise(reference)
        measured = fitted.evaluate(heldout)
        metrics |= {"heldout_nll": measured.nll, "heldout_accuracy": measured.accuracy}
        members.append(measured.scores)
        if stage.recipe.feedback.source == "people":
            of_trained.append(fitted.evaluate(kept).scores)
        reliabilities.append(annotators.reliabilities())
        ids.append(
            keep_model(
                stage,
                "reward",
                lambda folder, record, net=network, extra=reliabilities[-1]: net.save(
                    folder, {**record, "axis": axis, "reliabilities": extra}
                ),
                part=part,
                parents=(start.model, *_grown_from(stage)),
                snapshot=snapshot,
                metrics=metrics,
            )
        )
    mean = _mean(members)
    if of_trained:  # a lead looks where they contradict what people said
        keep_scores(stage, axis, _mean(of_trained) | mean, mean)
    betas = {
        name: float(np.exp(np.mean([np.log(found[name]) for found in reliabilities])))
        for name in reliabilities[0]
    }
    known = {i: stage.domain.gold(samples[i]) for i in mean}
    gold = {i: value for i, value in known.items() if value is not None}
    figures = reward_report(heldout, mean, samples, betas, gold if len(gold) == len(mean) else None)
    if figures.accuracy is not None:
        overall = figures.accuracy.overall
        note_accuracy(stage, axis, len(kept) + len(heldout), overall.value, overall.count)
    report = RewardReport(**dict(figures), trained_on=len(kept), heldout=len(heldout))
    return tuple(ids), report


def _mean(members: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of the members' scores of each sample."""
    return {i: float(np.mean([scores[i] for scores in members])) for i in members[0]}


def _grown_from(stage: Stage) -> tuple[str, ...]:
    """The model of the workspace that reward models grow from, where the recipe names its own."""
    settings = stage.recipe
    if settings.reward.model.name == settings.model.name:
        return ()
    place = model_place(settings.reward.model.name, stage.workspace)
    return made_here(stage, Path(place))


def load_reward(stage: Stage, models: RewardModels) -> Reward:
    """The trained models of every axis as the one reward that the recipe's mixture makes."""
    settings = stage.recipe.reward
    axes: dict[str, Reward] = {}
    for axis in dict.fromkeys((*settings.axes, *models.rewards)):
        members = [stage.domain.reward(stage.model_folder(model)) for model in models.of(axis)]
        axes[axis] = (
            members[0]
            if len(members) == 1
            else EnsembleReward(
                members, combine=settings.combine, penalty=settings.uncertainty_penalty
            )
        )
    mixture = settings.mixture
    if mixture.mode == "gated":
        return GatedReward(
            helpful=axes[mixture.helpful], safe=axes[mixture.safe], threshold=mixture.threshold
        )
    if len(axes) == 1 and not mixture.weights:
        return next(iter(axes.values()))
    return MixtureReward(
        {axis: (part, mixture.weights.get(axis, 1.0)) for axis, part in axes.items()}
    )


def policy(
    stage: Stage,
    start: ModelResult,
    current: ModelResult,
    told: SnapshotResult | None,
    reward: RewardModels | None,
) -> PolicyResult:
    """Train the policy from where the last round left it, near the starting model.

    Args:
        stage: whose work it is.
        start: the model that it is kept near.
        current: the policy of the last round; before the first one, the starting model.
        told: the feedback that it is trained on, itself or by way of reward models; None for
            reward models of which nobody knows.
        reward: the reward models, where the algorithm learns from any.
    """
    settings = stage.recipe.algorithm
    algorithm = make_algorithm(settings)
    network = stage.domain.policy(stage.model_folder(start.model), seed=stage.recipe.seed)
    if isinstance(current, PolicyResult):
        _take_up(stage, network, current.trained)
    trainer = make_trainer(algorithm, _parts(stage, network, start, told, reward))
    watchdog = PolicyMonitor(stage, usual_length(stage, start.model))
    metrics = train(stage, trainer, title="policy", watch=watchdog)
    rewards = reward.rewards.values() if reward else ()
    parents = (current.model, *(model for ids in rewards for model in ids))
    model = keep_model(
        stage,
        "policy",
        network.save,
        parents=parents,
        snapshot=told and told.snapshot,
        metrics=metrics,
    )
    with new_folder(stage.folder / "trained", replace=True) as draft:
        (draft / WEIGHTS).write_bytes(save(network.trainable_state()))
    trained = stage.folder / "trained" / WEIGHTS
    return PolicyResult(model=model, trained=str(trained.relative_to(stage.workspace.artifacts)))


def _take_up(stage: Stage, network: Any, trained: str) -> None:
    """Give a policy what the round before trained.

    Raises:
        DamageError: the file is not what was written.
        ModelError: it is of another network.
    """
    file = stage.workspace.artifacts / trained
    require_kept(file.parent, f"the policy that {stage.key} goes on from")
    try:
        network.load_trainable_state(read_tensors(file))
    except BackflipError as error:
        raise type(error)(error.what, where=str(file), hint=ANEW) from None


def _parts(
    stage: Stage,
    network: Any,
    start: ModelResult,
    told: SnapshotResult | None,
    reward: RewardModels | None,
) -> PolicyParts:
    recipe, domain = stage.recipe, stage.domain
    folder = stage.model_folder(start.model)
    name = type_of(recipe.algorithm)

    def models() -> RewardModels:
        if reward is None:
            raise TrainingError(f"{name} learns from a reward model; none was given")
        return reward

    def value() -> ValueModel:
        first = models().of(recipe.reward.axes[0])[0]
        return domain.value(stage.model_folder(first), seed=stage.seed)

    def pairs() -> list[Pair]:
        if told is None:
            raise TrainingError(f"{name} learns from feedback; none was given")
        entries, samples = _answers(stage, told, reward=False)
        return decided_pairs(entries, samples, skipped=_skipped(told))

    return PolicyParts(
        network=network,
        collate=domain.collate,
        spell=domain.spell,
        sampling=recipe.sampling,
        precision=domain.precision,
        seed=stage.seed,
        reference=lambda: domain.reference(folder),
        sampler=lambda: domain.sampler(folder, model_id=start.model),
        reward=lambda: load_reward(stage, models()),
        value=value,
        prompts=lambda: [prompt for prompt in domain.prompts() if prompt.split == "train"],
        pairs=pairs,
        text=domain.text_rows,
        watch=lambda samples: mean_gold(stage, samples),
    )


def mean_gold(stage: Stage, samples: Sequence[Sample]) -> dict[str, float]:
    """Mean gold measure of the samples, where it is known."""
    known = [gold for gold in map(stage.domain.gold, samples) if gold is not None]
    return {"gold": float(np.mean(known))} if known else {}
