"""What is flagged of a policy: that it runs away from its reference, or into length."""

from collections.abc import Mapping

import numpy as np

from backflip.loop.stage import Stage
from backflip.records.plan import BASELINE, POLICY, round_of
from backflip.records.results import EvaluationResult


def usual_length(stage: Stage, model: str) -> float | None:
    """Mean number of actions in the starting model's answers to the held-out prompts, if known."""
    for found in stage.workspace.stages.results(stage.run.id, BASELINE).values():
        if found.model == model:
            samples = stage.workspace.samples.get(found.samples)
            return float(np.mean([len(s.content.logprobs) for s in samples.values()]))
    return None


class PolicyMonitor:
    """Flags a policy that runs away from its reference or into length, while it happens.

    Lengths are held against `usual`, the starting model's: held against the stage's own first
    step, a policy that nearly doubles them in every round would never be flagged. The first step
    stands in where a stage is done alone and nobody asked the starting model.
    """

    def __init__(self, stage: Stage, usual: float | None = None):
        self.stage = stage
        self.usual = usual
        self.flagged: set[str] = set()

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        limits = self.stage.recipe.loop
        length = metrics.get("length")
        if self.usual is None:
            self.usual = self._first_length()
        if metrics.get("kl", 0.0) > limits.warn_kl:
            self._flag("kl", step, f"KL from the reference is {metrics['kl']:.1f} nats a sample")
        if length and self.usual and length > limits.warn_length * self.usual:
            self._flag("length", step, _grew(self.usual, length))

    def _first_length(self) -> float | None:
        """What is kept of the first step: a run that goes on has not seen it itself."""
        metrics = self.stage.workspace.metrics
        found = metrics.series(self.stage.run.id, stage=self.stage.key, names=["length"])
        return found[0].values[0] if found else None

    def _flag(self, name: str, step: int, what: str) -> None:
        self.stage.workspace.metrics.log(
            self.stage.run.id, f"{self.stage.key}/flags", step, {name: 1.0}
        )
        if name not in self.flagged:
            self.flagged.add(name)
            self.stage.reporter.warn(f"{self.stage.key}, step {step}: {what}.")


def flag_measured(stage: Stage, result: EvaluationResult) -> None:
    """Flag a policy by what its evaluation measured, unless its training flagged that already.

    An algorithm that learns from pairs draws no samples while it trains, so it has no KL of its
    policy to report: the log-ratios of replies that another policy wrote are none. It is measured
    here, once, on samples of its own. The flag stands at the last step of the training.
    """
    limits, metrics = stage.recipe.loop, stage.workspace.metrics
    told: dict[str, str] = {}
    if (kl := result.kl.value) > limits.warn_kl:
        told["kl"] = f"KL from the starting model is {kl:.1f} nats a sample"
    length = result.means["length"]
    if length.after > limits.warn_length * length.before:
        told["length"] = _grew(length.before, length.after)
    number = round_of(stage.key)
    if number is not None:  # a policy that is measured on its own was trained under another key
        training = POLICY.key(number)
        flags = f"{training}/flags"
        known = {s.name for s in metrics.series(stage.run.id, stage=flags)}
        steps = [s.steps[-1] for s in metrics.series(stage.run.id, stage=training)]
        told = {name: what for name, what in told.items() if name not in known}
        metrics.log(stage.run.id, flags, max(steps, default=0), dict.fromkeys(told, 1.0))
    for what in told.values():
        stage.reporter.warn(f"{stage.key}: {what}.")


def _grew(before: float, after: float) -> str:
    return f"samples grew from {before:.0f} to {after:.0f} actions"
