"""Holding a policy against the model that the run started from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from backflip.evaluation import clustered_interval, win_rate
from backflip.loop.stage import Stage
from backflip.loop.stages.acting import act, heldout_prompts
from backflip.loop.stages.judging import Judged, ask_about_sides
from backflip.loop.stages.learning import load_reward
from backflip.loop.stages.monitoring import flag_measured
from backflip.records import Sample
from backflip.records.figures import KeptInterval
from backflip.records.results import (
    EvaluationResult,
    KeptExample,
    KeptSample,
    KeptSides,
    ModelResult,
    RewardModels,
    RolloutResult,
    VerdictResult,
)

Sides = tuple[list[float], list[float]]
"""A measure of the starting model's samples and of the policy's, sample by sample."""


def evaluate(
    stage: Stage,
    start: ModelResult,
    baseline: RolloutResult,
    policy: ModelResult,
    reward: RewardModels | None,
) -> EvaluationResult:
    """Answer the held-out prompts, and compare with what the starting model answered.

    Who wins is decided by the gold measure where it is known, and else by the judge where the
    recipe has one; the reward that was optimised never decides.

    Raises:
        JudgeError: the judge gave no answer at all.
    """
    settings = stage.recipe.evaluation
    prompts = heldout_prompts(stage, settings.prompts)
    after = act(stage, policy.model, prompts, settings.samples_per_prompt)
    kept = stage.workspace.samples.get(baseline.samples)
    before = [kept[sample_id] for sample_id in baseline.samples]
    scores = _measures(stage, before, after, reward)
    judged = None if "gold" in scores else ask_about_sides(stage, before, after)
    result = EvaluationResult(
        model=policy.model,
        against=start.model,
        prompts=len(prompts),
        judged_by="gold" if "gold" in scores else "judge" if judged else None,
        means={
            name: KeptSides(before=float(np.mean(old)), after=float(np.mean(new)))
            for name, (old, new) in scores.items()
        },
        kl=_kl(stage, start, policy, after),
        examples=_examples(before, after, scores, settings.examples, judged and judged.said),
        **_won(scores, judged, len(prompts), settings.confidence),
    )
    flag_measured(stage, result)
    return result


def _won(
    scores: Mapping[str, Sides], judged: Judged | None, num_prompts: int, confidence: float
) -> dict[str, Any]:
    """Who won how often by whose word, as far as anybody says so: fields of the result."""

    def share(sides: Sides, prompts: int) -> KeptInterval:
        won = win_rate(sides[1], sides[0], prompts, confidence=confidence)
        return KeptInterval(**asdict(won))

    found: dict[str, Any] = {
        key: share(scores[name], num_prompts)
        for name, key in (("reward", "reward_prefers"), ("gold", "win_rate"))
        if name in scores
    }
    if judged is not None:
        found["judge"] = judged.told
        found["win_rate"] = share((judged.points_against, judged.points), judged.told.prompts)
    return found


def _measures(
    stage: Stage, before: Sequence[Sample], after: Sequence[Sample], reward: RewardModels | None
) -> dict[str, Sides]:
    """Each measure of both sides, sample by sample; only those that know every sample."""
    measures: dict[str, Any] = {
        "gold": lambda samples: [stage.domain.gold(sample) for sample in samples],
        "length": lambda samples: [float(len(s.content.logprobs)) for s in samples],
        "truncated": lambda samples: [float(s.content.truncated) for s in samples],
    }
    if reward is not None:
        measures["reward"] = load_reward(stage, reward).score
    found = {name: (measure(before), measure(after)) for name, measure in measures.items()}
    return {
        name: sides
        for name, sides in found.items()
        if None not in sides[0] and None not in sides[1]
    }


def _kl(
    stage: Stage, start: ModelResult, policy: ModelResult, samples: Sequence[Sample]
) -> KeptInterval:
    """Distance of the policy from the starting model on its own samples, in nats a sample.

    Both are read at the temperature that the samples were drawn at: only so is the mean of
    log policy - log start over them the divergence of what acts from what acted. Samples that were
    drawn greedily or through filters are no fair draw at any temperature. Of them it is the mean
    log-ratio and nothing more; greedy ones are read at temperature 1.
    """
    totals, temperature = [], stage.recipe.sampling.temperature or 1.0
    for model in (policy.model, start.model):
        network = stage.domain.frozen(stage.model_folder(model))
        inputs = stage.domain.collate(samples)
        sums = []
        with torch.no_grad():
            for rows in torch.arange(inputs.num_rows).split(32):
                part = inputs.select(rows)
                logprobs = network.evaluate(part, temperature=temperature).logprobs_BT
                sums.append(logprobs.masked_fill(~part.mask_BT, 0.0).sum(1))
        totals.append(torch.cat(sums).double().numpy())
    kl = clustered_interval(
        totals[0] - totals[1],
        [sample.prompt_id for sample in samples],
        confidence=stage.recipe.evaluation.confidence,
        seed=stage.recipe.seed,
    )
    return KeptInterval(**asdict(kl))


def _examples(
    before: Sequence[Sample],
    after: Sequence[Sample],
    scores: Mapping[str, Sides],
    number: int,
    said: Sequence[VerdictResult] | None = None,
) -> tuple[KeptExample, ...]:
    """The first replies, not the best ones, side by side with what was measured of them."""

    def side(sample: Sample, side: int, i: int) -> KeptSample:
        measured = {name: sides[side][i] for name, sides in scores.items()}
        return KeptSample.model_validate({"sample": sample.id, **measured})

    return tuple(
        KeptExample(
            prompt=old.prompt.text,
            before=side(old, 0, i),
            after=side(new, 1, i),
            **({} if said is None else {"judge": said[i]}),
        )
        for i, (old, new) in enumerate(zip(before[:number], after[:number], strict=True))
    )
