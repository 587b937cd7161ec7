"""Draws each algorithm's curve for its page: the point agent, several seeds, gold by round.

    python tools/curves.py [ALGORITHM ...] [--seeds N]

Runs the recipe `point` with four rounds in a folder that is thrown away, and writes
docs/images/curve-ALGORITHM.svg. Prints the figures that the page quotes.
"""

import argparse
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from backflip.loop import Run, load_recipe, make_domain
from backflip.records.results import EvaluationResult
from backflip.workspace import Workspace

IMAGES = Path(__file__).parents[1] / "docs" / "images"
ROUNDS = 4
OVERRIDES = {
    "ppo": [],
    "dpo": [
        "algorithm=dpo",
        "algorithm.epochs=20",
        "algorithm.optimizer.learning_rate=3e-3",
        "algorithm.optimizer.micro_batch_tokens=100000",
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("algorithms", nargs="*", default=list(OVERRIDES))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    for algorithm in options.algorithms:
        runs = [evaluations(algorithm, seed) for seed in range(options.seeds)]
        gold = np.array([[r[0].means["gold"].before, *after(r)] for r in runs])
        kl = np.array([[0.0, *(e.kl.value for e in r)] for r in runs])
        draw(algorithm, gold, kl)
        for name, values in (("gold", gold), ("KL", kl)):
            ends = ", ".join(f"{v:.2f}" for v in values[:, -1])
            print(f"{algorithm}: {name} after round {ROUNDS} by seed: {ends}", flush=True)


def evaluations(algorithm: str, seed: int) -> list[EvaluationResult]:
    """The evaluation of each round."""
    overrides = [f"seed={seed}", f"loop.rounds={ROUNDS}"]
    recipe = load_recipe("point", [*OVERRIDES[algorithm], *overrides])
    with tempfile.TemporaryDirectory() as folder, Workspace.create(folder) as workspace:
        return Run(workspace, recipe, make_domain(recipe, workspace)).go()


def after(run: list[EvaluationResult]) -> list[float]:
    return [evaluation.means["gold"].after for evaluation in run]


def draw(algorithm: str, gold: np.ndarray, kl: np.ndarray) -> None:
    """One thin line a seed, a thick one for their mean."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
    for axis, values, name in zip(axes, (gold, kl), ("gold", "KL, nats a clip"), strict=True):
        rounds = range(values.shape[1])
        axis.plot(rounds, values.T, color="#888888", linewidth=0.8)
        axis.plot(rounds, values.mean(0), color="#b3261e", linewidth=2.2)
        axis.set(xlabel="round", ylabel=name, xticks=list(rounds))
        axis.spines[["top", "right"]].set_visible(False)
    # Neither the time nor random names, so that the same figures give the same file.
    plt.rcParams["svg.hashsalt"] = algorithm
    figure.savefig(IMAGES / f"curve-{algorithm}.svg", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
