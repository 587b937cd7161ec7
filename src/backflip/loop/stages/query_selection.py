"""Which of the samples people are asked about, where a strategy picks them from a pool."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from backflip.errors import DamageError
from backflip.feedback.query_selection import Candidate, Floats, Selection, select, set_embeddings
from backflip.feedback.teachers import Item, distinct_by_prompt, make_items
from backflip.loop.kept_files import ANEW
from backflip.loop.stage import Stage
from backflip.records import Sample, derive_seed
from backflip.records.plan import SELECTION
from backflip.records.results import AskedSet, RewardModels, SelectionResult
from backflip.rewards import TrainedReward, heldout_side
from backflip.workspace import Workspace


def picks(stage: Stage, reward: RewardModels | None) -> bool:
    """Whether a strategy picks what this round asks about.

    The two that go by reward models cannot before there are any.
    """
    strategy = stage.recipe.feedback.selection.strategy
    return strategy == "diverse" or (strategy != "random" and reward is not None)


def num_prompts(stage: Stage) -> int:
    """How many prompts, each with its samples, a round asks about."""
    own = sum(prompt.split == "train" for prompt in stage.domain.prompts())
    return min(stage.recipe.feedback.prompts, own)


def questions(stage: Stage, samples: Sequence[Sample], reward: RewardModels | None) -> list[Item]:
    """What to ask about these samples, or about those of them that a strategy picks.

    What it picked is a stage of its own, kept before anybody is asked: a round that is cut off
    goes on with the same questions.

    Args:
        stage: the feedback's.
        samples: all that the policy gave this round.
        reward: reward models of the round before; None where there are none.
    """
    settings, axes = stage.recipe.feedback, stage.recipe.reward.axes
    strategy = settings.selection.strategy
    if strategy == "random":
        return make_items(samples, settings.kinds, axes)
    if not picks(stage, reward):
        stage.reporter.say(
            f"{stage.key}: there is no reward model yet for {strategy!r} to go by, so this round "
            "asks about samples drawn at random."
        )
        return make_items(samples, settings.kinds, axes)
    chosen = stage.run.stage(SELECTION.below(stage.key), choose, samples, reward)
    by_id = {sample.id: sample for sample in samples}
    return [
        item
        for asked in chosen.asked
        for item in make_items(_found(by_id, asked), settings.kinds, axes)
    ]


def choose(stage: Stage, samples: Sequence[Sample], reward: RewardModels | None) -> SelectionResult:
    """Choose among the sets of samples that could be put up, prompt by prompt."""
    recipe = stage.recipe
    settings = recipe.feedback.selection
    candidates = pool_of(samples, recipe.feedback.samples_per_prompt)
    chosen = select(
        candidates,
        num_prompts(stage),
        settings,
        np.random.default_rng(stage.seed),
        **_measured(stage, candidates, samples, reward),
        heldout=heldout_side(
            {c.prompt for c in candidates}, recipe.reward.heldout, heldout_seed(stage)
        ),
        heldout_share=recipe.reward.heldout,
    )
    stage.reporter.say(_told(stage, candidates, chosen))
    drawn = set(chosen.drawn)
    return SelectionResult(
        strategy=settings.strategy,
        candidates=len(candidates),
        asked=tuple(
            AskedSet(samples=tuple(samples[i].id for i in candidates[c].places), by_lot=c in drawn)
            for c in chosen.asked
        ),
    )


def _found(samples: Mapping[str, Sample], asked: AskedSet) -> list[Sample]:
    """The samples of a set that was chosen from these."""
    if gone := [name for name in asked.samples if name not in samples]:
        raise DamageError(
            f"what was chosen to be asked about holds {gone[0]}, which is none of the round's "
            "samples",
            hint=ANEW,
        )
    return [samples[name] for name in asked.samples]


def pool_of(samples: Sequence[Sample], each: int) -> list[Candidate]:
    """The sets that could be put up: the samples of each prompt, `each` at a time.

    Of samples that look the same the first counts. What is left of a prompt's is a smaller set,
    where it is enough to compare.
    """
    places = {sample.id: place for place, sample in enumerate(samples)}
    found: list[Candidate] = []
    for prompt, group in distinct_by_prompt(samples).items():
        for start in range(0, len(group), each):
            members = tuple(places[sample.id] for sample in group[start : start + each])
            if len(members) >= min(2, each):
                found.append(Candidate(prompt, members))
    return found


def heldout_seed(stage: Stage) -> int:
    """The seed by which prompts are held out from the reward models of a run."""
    return derive_seed(stage.recipe.seed, "heldout")


def picked_samples(workspace: Workspace) -> set[str]:
    """Ids of the samples that a strategy picked to be asked about, in any run."""
    return {
        name
        for run in workspace.runs.all()
        for result in workspace.stages.results(run.id, SELECTION).values()
        for asked in result.asked
        if not asked.by_lot
        for name in asked.samples
    }


def _measured(
    stage: Stage,
    candidates: Sequence[Candidate],
    samples: Sequence[Sample],
    reward: RewardModels | None,
) -> dict[str, Any]:
    """What the strategy goes by, as arguments of `select`."""
    if stage.recipe.feedback.selection.strategy != "diverse":
        return {"scores": [_log_odds(stage, ids, samples) for ids in _models(reward)]}
    networks = _networks(stage, samples[0].model, reward)
    earlier = stage.workspace.journal.active(run=stage.run.id, rounds=range(1, stage.round))
    asked = sorted({tuple(sorted(entry.sample_ids)) for entry in earlier})
    kept = stage.workspace.samples.get({name for ids in asked for name in ids})
    everything = [*samples, *kept.values()]
    features = np.concatenate([network.embed(everything) for network in networks], 1)
    # Of a few hidden units that vary much more than the others, distances would be of those alone.
    spread = features.std(0)
    features = (features - features.mean(0)) / np.where(spread > 0, spread, 1.0)
    places = {name: place for place, name in enumerate(kept, len(samples))}
    known = [Candidate("", tuple(places[name] for name in ids)) for ids in asked]
    return {"embeddings": features, "known": set_embeddings(known, features) if known else None}


def _log_odds(stage: Stage, ids: Sequence[str], samples: Sequence[Sample]) -> Floats:
    """(M, S) scores of the members of an axis, in the unit that their likelihoods are in."""
    rows: list[Floats] = []
    for model in ids:
        member = stage.domain.reward(stage.model_folder(model))
        rows.append(np.array(member.score(samples), np.float64) * member.scale)
    return np.array(rows)


def _networks(stage: Stage, acted: str | None, reward: RewardModels | None) -> list[TrainedReward]:
    """The networks that embed: a reward model of each axis, or one that is still to be trained."""
    if reward is None:
        return [stage.domain.scorer(stage.model_folder(str(acted)), seed=stage.seed)]
    return [stage.domain.reward(stage.model_folder(ids[0])) for ids in _models(reward)]


def _models(reward: RewardModels | None) -> list[tuple[str, ...]]:
    """The reward models of each axis."""
    return [] if reward is None else list(reward.rewards.values())


def _told(stage: Stage, candidates: Sequence[Candidate], chosen: Selection) -> str:
    strategy = stage.recipe.feedback.selection.strategy
    return (
        f"{stage.key}: of {len(candidates)} candidates, {len(chosen.picked)} were picked by "
        f"{strategy!r} and {len(chosen.drawn)} drawn at random."
    )
