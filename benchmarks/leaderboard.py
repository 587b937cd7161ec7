"""Seconds to place models by votes, with clustered intervals; one JSON line.

    python benchmarks/leaderboard.py [--votes N] [--models K] [--prompts P] [--annotators A]
        [--repeat R] [--seed S]

Votes are drawn from strengths that differ by prompt and by annotator; one in seven is a tie. One
thread. `seconds` (with the lowest and highest) and `cpu_seconds` are medians of R calls;
`first_seconds` is the call before them, which imports what only intervals need. In turn with these
evalica is called on the same votes, to full convergence: it finds the strengths, no intervals.
`max_difference` is the largest of any strength. Figures of one machine mean little beside those of
another: compare ratios taken in one run.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--votes", type=int, default=100_000)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--prompts", type=int, default=5_000)
    parser.add_argument("--annotators", type=int, default=500)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # Read when numpy is imported, which happens below.
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    print(json.dumps({"benchmark": "leaderboard", **measure(options), **vars(options)}), flush=True)


def measure(options: argparse.Namespace) -> dict:
    import evalica
    import numpy as np

    from backflip.quality.leaderboard import leaderboard

    winner = {"a": evalica.Winner.X, "b": evalica.Winner.Y, "tie": evalica.Winner.Draw}
    votes = make_votes(options)
    a, b = [vote.a for vote in votes], [vote.b for vote in votes]
    winners = [winner[vote.outcome] for vote in votes]

    def call_ours():
        return leaderboard(votes)

    def call_evalica():
        return evalica.bradley_terry(a, b, winners, tolerance=1e-12, limit=10_000)

    found, first, _ = timed(call_ours)
    expected = np.log(call_evalica().scores)
    off = [s.strength - (expected[s.model] - expected.mean()) for s in found.standings]
    rounds = [(*timed(call_ours), *timed(call_evalica)) for _ in range(options.repeat)]
    _, ours, cpu, _, theirs, _ = zip(*rounds, strict=True)
    return {
        "seconds": round(statistics.median(ours), 4),
        "lowest": round(min(ours), 4),
        "highest": round(max(ours), 4),
        "cpu_seconds": round(statistics.median(cpu), 4),
        "first_seconds": round(first, 4),
        "evalica_seconds": round(statistics.median(theirs), 4),
        "evalica_lowest": round(min(theirs), 4),
        "evalica_highest": round(max(theirs), 4),
        "max_difference": float(np.abs(off).max()),
        "evalica": evalica.__version__,
    }


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """What the call returns, and the seconds of the clock and of the processor that it took."""
    start, start_cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - start, time.process_time() - start_cpu


def make_votes(options: argparse.Namespace) -> list:
    import numpy as np

    from backflip.quality.leaderboard import Vote

    rng = np.random.default_rng(options.seed)
    strengths = rng.normal(0, 0.7, options.models)
    by_prompt = rng.normal(0, 0.5, (options.prompts, options.models))
    by_annotator = rng.normal(0, 0.3, (options.annotators, options.models))
    a = rng.integers(0, options.models, options.votes)
    b = (a + rng.integers(1, options.models, options.votes)) % options.models
    prompts = rng.integers(0, options.prompts, options.votes)
    annotators = rng.integers(0, options.annotators, options.votes)

    def liking(models):
        return strengths[models] + by_prompt[prompts, models] + by_annotator[annotators, models]

    wins = rng.random(options.votes) < 1 / (1 + np.exp(liking(b) - liking(a)))
    ties = rng.random(options.votes) < 1 / 7
    outcomes = np.where(ties, "tie", np.where(wins, "a", "b")).tolist()
    return [
        Vote(f"model-{i}", f"model-{j}", outcome, f"prompt-{p}", f"annotator-{q}")
        for i, j, outcome, p, q in zip(a, b, outcomes, prompts, annotators, strict=True)
    ]


if __name__ == "__main__":
    main()
