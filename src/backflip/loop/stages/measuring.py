"""Holding a policy against the model that the run started from."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from backflip.evaluation import clustered_interval, win_rate
from backflip.loop.stages.acting import act, heldout_prompts
from backflip.loop.stages.judging import ask_about_sides
from backflip.loop.stages.learning import load_reward
from backflip.loop.stages.monitoring import flag_measured
from backflip.records import Sample

if TYPE_CHECKING:
    from backflip.loop.run import Stage

Result = dict[str, Any]


def evaluate(
    stage: "Stage", start: Result, baseline: Result, policy: Result, reward: Result | None
) -> Result:
    """Answer the held-out prompts, and compare with what the starting model answered.

    Who wins is decided by the gold measure where it is known, and else by the judge where the
    recipe has one; the reward that was optimised never decides.

    Returns:
        "judged_by" ("gold", "judge" or None) and, where somebody did, "win_rate"; what the judge
        said ("judge", see `ask_about_sides`); "reward_prefers", the share of samples of which the
        reward prefers the policy's; "means" of each measure, "kl" and "examples".

    Raises:
        JudgeError: the judge gave no answer at all.
    """
    settings = stage.recipe.evaluation
    prompts = heldout_prompts(stage, settings.prompts)
    after = act(stage, policy["model"], prompts, settings.samples_per_prompt)
    kept = stage.workspace.samples.get(baseline["samples"])
    before = [kept[sample_id] for sample_id in baseline["samples"]]
    scores = _measures(stage, before, after, reward)
    judged = None if "gold" in scores else ask_about_sides(stage, before, after)
    result: Result = {
        "model": policy["model"],
        "against": start["model"],
        "prompts": len(prompts),
        "judged_by": "gold" if "gold" in scores else "judge" if judged else None,
        "means": {
            name: {"before": float(np.mean(old)), "after": float(np.mean(new))}
            for name, (old, new) in scores.items()
        },
        "kl": _kl(stage, start, policy, after),
        "examples": _examples(before, after, scores, settings.examples),
    }
    flag_measured(stage, result)

    def won(new: Sequence[float], old: Sequence[float], num_prompts: int) -> dict[str, float]:
        return asdict(win_rate(new, old, num_prompts, confidence=settings.confidence))

    for name, key in (("reward", "reward_prefers"), ("gold", "win_rate")):
        if name in scores:
            result[key] = won(scores[name][1], scores[name][0], len(prompts))
    if judged is not None:
        result["judge"] = judged.told
        result["win_rate"] = won(judged.points, judged.points_against, judged.told["prompts"])
        for example, said in zip(result["examples"], judged.said, strict=False):
            example["judge"] = said
    return result


def _measures(
    stage: "Stage", before: Sequence[Sample], after: Sequence[Sample], reward: Result | None
) -> dict[str, tuple[list[float], list[float]]]:
    """Each measure of both sides, sample by sample; only those that know every sample."""
    measures: dict[str, Any] = {
        "gold": lambda samples: [stage.domain.gold(sample) for sample in samples],
        "length": lambda samples: [float(len(s.content.logprobs)) for s in samples],
        "truncated": lambda samples: [float(s.content.truncated) for s in samples],
    }
    if reward is not None:
        measures["reward"] = load_reward(stage, reward["rewards"]).score
    found = {name: (measure(before), measure(after)) for name, measure in measures.items()}
    return {
        name: sides
        for name, sides in found.items()
        if None not in sides[0] and None not in sides[1]
    }


def _kl(
    stage: "Stage", start: Result, policy: Result, samples: Sequence[Sample]
) -> dict[str, float]:
    """Distance of the policy from the starting model on its own samples, in nats a sample.

    Both are read at the temperature that the samples were drawn at: only so is the mean of
    log policy - log start over them the divergence of what acts from what acted. Samples that were
    drawn greedily or through filters are no fair draw at any temperature. Of them it is the mean
    log-ratio and nothing more; greedy ones are read at temperature 1.
    """
    totals, temperature = [], stage.recipe.sampling.temperature or 1.0
    for model in (policy["model"], start["model"]):
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
    return {"value": kl.value, "low": kl.low, "high": kl.high}


def _examples(
    before: Sequence[Sample],
    after: Sequence[Sample],
    scores: dict[str, tuple[list[float], list[float]]],
    number: int,
) -> list[dict[str, Any]]:
    """The first replies, not the best ones, side by side with what was measured of them."""
    return [
        {
            "prompt": old.prompt.text,
            "before": {"sample": old.id, **_side(scores, 0, i)},
            "after": {"sample": new.id, **_side(scores, 1, i)},
        }
        for i, (old, new) in enumerate(zip(before[:number], after[:number], strict=True))
    ]


def _side(
    scores: dict[str, tuple[list[float], list[float]]], side: int, i: int
) -> dict[str, float]:
    return {name: sides[side][i] for name, sides in scores.items()}
