"""How many labels each strategy of query selection needs, beside labels drawn at random.

    python benchmarks/label_efficiency.py [--world WORLD] [--crowd CROWD] [--seeds N]
        [--rounds N] [--number N] [--pool N] [--workers N] [--replies FILE]

Worlds:

    features   samples are points of 12 dimensions; gold is a random network's value of them
    replies    replies of SmolLM2-135M to the package's prompts, by the means of their last hidden
               states on 32 principal axes; gold is the sentiment of the text. They are sampled
               once, which takes minutes, and kept in FILE

Each seed plays the rounds of a run, but for the policy, which stays as it is: a round draws a pool
of pairs, `select` chooses among them by the reward models of the round before, simulated people
answer, `split_by_prompt` holds some out and `RewardFit` fits an ensemble to the rest. The first
round is drawn at random; all strategies share it, and the pools of the later ones. What is
reported is on pairs that nobody was asked about, by the true reward: the share that the ensemble's
mean orders right, and the rank correlation of the two. Labels are all that were asked for, the
held-out ones with them.

Prints a JSON line for each strategy and number of labels, one for each strategy with the labels
that it needs to reach what random reaches with all of them, and a table on stderr. Intervals are
of 95 percent: over seeds by Student's t, of ratios by the bootstrap over seeds.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from backflip.agents import ClipReward, ClipScorer
from backflip.config import (
    FeedbackSettings,
    OptimizerSettings,
    RewardSettings,
    SamplingSettings,
    SelectionSettings,
    TeacherSettings,
)
from backflip.feedback.gold import environment_gold, find_gold, sentiment_gold
from backflip.feedback.query_selection import Candidate, select, set_embeddings
from backflip.feedback.teachers import Item, Teacher, ask_crowd, make_crowd
from backflip.records import Clip, Prompt, Sample, Situation, derive_seed
from backflip.records.feedback import FeedbackBase
from backflip.rewards import AnnotatorModel, RewardFit, heldout_side, split_by_prompt
from backflip.training import RewardTrainer

STRATEGIES = ("random", "disagreement", "margin", "diverse")
CROWDS = {
    "noisy": FeedbackSettings().teachers,
    "exact": (TeacherSettings(name="exact", beta=1e6),),
}
NUM_TEST = 400
SPREAD = 0.35
"""Standard deviation of gold in every world: about that of the sentiment of replies."""


@dataclass(frozen=True)
class World:
    """Pairs of samples to ask about, and others to measure by.

    Attributes:
        shape: of the reward network.
        draw: the pairs of a pool, by seed, round and number.
        test: pairs that are never asked about.
    """

    shape: dict
    draw: Callable[[int, int, int], list[tuple[Sample, Sample]]]
    test: list[tuple[Sample, Sample]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", choices=tuple(WORLDS), default="features")
    parser.add_argument("--crowd", choices=tuple(CROWDS), default="noisy")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--number", type=int, default=32, help="labels a round")
    parser.add_argument("--pool", type=int, default=4)
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40, help="of a fit; each reads all labels")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--replies", type=Path, default=Path("replies.npz"))
    options = parser.parse_args()
    if options.world == "replies" and not options.replies.exists():
        write_replies(options.replies)
    jobs = [(options, strategy, seed) for seed in range(options.seeds) for strategy in STRATEGIES]
    curves: dict[str, list] = {strategy: [] for strategy in STRATEGIES}
    with ProcessPoolExecutor(options.workers) as processes:
        for (_, strategy, seed), curve in zip(jobs, processes.map(play, jobs), strict=True):
            curves[strategy].append(curve)
            print(f"seed {seed} {strategy}: {curve[-1]}", file=sys.stderr, flush=True)
    report(options, {strategy: np.array(found) for strategy, found in curves.items()})


def play(job: tuple) -> list[tuple[float, float, float]]:
    """One strategy and seed: accuracy, rank correlation and held-out bias after each round."""
    options, strategy, seed = job
    torch.set_num_threads(1)
    world = WORLDS[options.world](options)
    game = Game(options, world, seed)
    networks: list[ClipReward] = []
    curve = []
    for number in range(options.rounds):
        pool = world.draw(seed, number, options.pool * options.number)
        game.ask(pool, strategy if number else "random", networks, number)
        networks, told = game.fit(number)
        curve.append(game.measure(networks, told))
    return curve


class Game:
    """What one run has asked and learned."""

    def __init__(self, options: argparse.Namespace, world: World, seed: int):
        self.options = options
        self.world = world
        self.seed = seed
        gold = find_gold("environment")
        self.crowd: list[Teacher] = make_crowd(CROWDS[options.crowd], gold, seed=seed)
        self.settings = RewardSettings(
            ensemble=options.members,
            epochs=options.steps,
            batch_size=options.rounds * options.number,
            optimizer=OptimizerSettings(learning_rate=1e-2, weight_decay=0.01),
        )
        self.entries: list[FeedbackBase] = []
        self.samples: dict[str, Sample] = {}
        self.picked: set[str] = set()
        self.asked: list[tuple[Sample, Sample]] = []
        self.answers = self._answers(world.test, derive_seed(seed, "test"))

    def ask(self, pool, strategy: str, networks: Sequence[ClipReward], number: int) -> None:
        samples = [sample for pair in pool for sample in pair]
        candidates = [Candidate(a.prompt_id, (2 * i, 2 * i + 1)) for i, (a, _) in enumerate(pool)]
        given = {}
        if strategy in ("disagreement", "margin"):
            rows = [np.array(network.score(samples)) * network.scale for network in networks]
            given["scores"] = [np.array(rows)]
        elif strategy == "diverse":
            before = [sample for pair in self.asked for sample in pair]
            features = networks[0].embed([*samples, *before])
            spread = features.std(0)
            features = (features - features.mean(0)) / np.where(spread > 0, spread, 1.0)
            places = range(len(samples), len(features), 2)
            given["embeddings"] = features
            given["known"] = set_embeddings([Candidate("", (i, i + 1)) for i in places], features)
        share, side_seed = self.settings.heldout, derive_seed(self.seed, "heldout")
        chosen = select(
            candidates,
            self.options.number,
            SelectionSettings(strategy=strategy),
            np.random.default_rng(derive_seed(self.seed, "select", number)),
            heldout=heldout_side([c.prompt for c in candidates], share, side_seed),
            heldout_share=share,
            **given,
        )
        if strategy != "random":
            self.picked |= {sample.id for i in chosen.picked for sample in pool[i]}
        pairs = [pool[i] for i in chosen.asked]
        self.asked += pairs
        self.samples |= {sample.id: sample for pair in pairs for sample in pair}
        self.entries += self._answers(pairs, derive_seed(self.seed, "ask", number))

    def fit(self, number: int) -> tuple[list[ClipReward], list[FeedbackBase]]:
        """The ensemble, and what was held out from it."""
        settings = self.settings
        share, seed = settings.heldout, derive_seed(self.seed, "heldout")
        kept, heldout = split_by_prompt(self.entries, self.samples, share, seed, self.picked)
        networks = []
        for member in range(settings.ensemble):
            own = derive_seed(self.seed, "member", member, number)
            network = ClipReward(ClipScorer(self.world.shape, seed=own))
            annotators = AnnotatorModel.of(kept, settings)
            fitted = RewardFit(network, annotators, kept, self.samples, settings, own)
            training = RewardTrainer(fitted, settings)
            for step in range(training.num_steps):
                training.step(step)
            network.normalise([sample for pair in self.world.test for sample in pair])
            networks.append(network)
        return networks, heldout

    def measure(self, networks, heldout) -> tuple[float, float, float]:
        tested = [sample for pair in self.world.test for sample in pair]
        scores = self._mean(networks, tested)
        golds = np.array([environment_gold(sample) for sample in tested])
        right = np.sign(golds[::2] - golds[1::2]) == np.sign(scores[::2] - scores[1::2])
        correlation = stats.spearmanr(scores, golds).statistic
        everywhere = dict(zip([s.id for s in tested], scores, strict=True))
        kept = [self.samples[i] for e in heldout for i in e.sample_ids]
        on_kept = dict(zip([s.id for s in kept], self._mean(networks, kept), strict=True))
        bias = _agreed(heldout, on_kept) - _agreed(self.answers, everywhere)
        return float(right.mean()), float(correlation), bias

    def _mean(self, networks, samples) -> np.ndarray:
        return np.mean([network.score(samples) for network in networks], 0)

    def _answers(self, pairs, seed: int) -> list[FeedbackBase]:
        items = [Item("comparison", pair, "overall") for pair in pairs]
        return ask_crowd(self.crowd, items, seed=seed).entries


def _agreed(entries, scores) -> float:
    """Share of the answers that the scores order like the person."""
    pairs = [e.samples if e.choice == "a" else e.samples[::-1] for e in entries]
    return float(np.mean([scores[a] > scores[b] for a, b in pairs]))


def as_clip(prompt: Prompt, features: np.ndarray, gold: float, index: int) -> Sample:
    """Features and their gold as a clip of one step, which every part of the package reads."""
    seen = np.stack([np.zeros_like(features), features]).astype(np.float32)
    done, reward = np.zeros((1, 1), np.float32), np.array([gold], np.float32)
    clip = Clip("features", seen, done, np.zeros(1, np.float32), reward, False, True)
    return Sample.of(prompt, clip, index=index)


def _situation(seed: int) -> Prompt:
    return Prompt(content=Situation(environment="features", seed=seed))


def features_world(options: argparse.Namespace) -> World:
    width = 12
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(width, 24)) / width**0.5, rng.normal(size=24)
    bias = rng.normal(size=24)

    def gold(points):
        return np.tanh(1.5 * points @ first + bias) @ second

    scale = SPREAD / gold(rng.normal(size=(10000, width))).std()

    def pairs(rng: np.random.Generator, number: int) -> list[tuple[Sample, Sample]]:
        points = rng.normal(size=(2 * number, width))
        golds = scale * gold(points)
        seeds = rng.integers(2**40, size=number)
        made = [
            as_clip(_situation(int(seeds[i // 2])), points[i], golds[i], i % 2)
            for i in range(2 * number)
        ]
        return list(zip(made[::2], made[1::2], strict=True))

    def draw(seed: int, number: int, count: int) -> list[tuple[Sample, Sample]]:
        return pairs(np.random.default_rng(derive_seed(seed, "pool", number)), count)

    shape = {"observation": width, "actions": 1, "discrete": False, "width": 32}
    return World(shape, draw, pairs(np.random.default_rng(2), NUM_TEST))


def replies_world(options: argparse.Namespace) -> World:
    kept = np.load(options.replies)
    golds = SPREAD * (kept["gold"] - kept["gold"].mean()) / kept["gold"].std()
    made = [
        [
            as_clip(_situation(p), row, gold, i)
            for i, (row, gold) in enumerate(zip(*of, strict=True))
        ]
        for p, of in enumerate(zip(kept["features"], golds, strict=True))
    ]
    pairs = [[(group[i], group[i + 1]) for i in range(0, len(group), 2)] for group in made]
    test = NUM_TEST // len(pairs[0])
    asked = [pair for group in pairs[test:] for pair in group]

    def draw(seed: int, number: int, count: int) -> list[tuple[Sample, Sample]]:
        order = np.random.default_rng(derive_seed(seed, "pool")).permutation(len(asked))
        places = order[number * count : (number + 1) * count]
        if len(places) < count:
            raise SystemExit(f"{len(asked)} pairs are too few for {options.rounds} such pools")
        return [asked[i] for i in places]

    shape = {
        "observation": kept["features"].shape[-1],
        "actions": 1,
        "discrete": False,
        "width": 32,
    }
    return World(shape, draw, [pair for group in pairs[:test] for pair in group])


WORLDS = {"features": features_world, "replies": replies_world}


def write_replies(file: Path, each: int = 6, axes: int = 32) -> None:
    """Sample replies with SmolLM2, and keep their features and their gold."""
    import tempfile

    from backflip.loop import load_recipe, make_domain
    from backflip.workspace import Workspace

    recipe = load_recipe("demo")
    with tempfile.TemporaryDirectory() as folder, Workspace.create(Path(folder) / "w") as workspace:
        domain = make_domain(recipe, workspace)
        start = domain.start(Path(folder), seed=0)
        prompts = domain.prompts()
        sampling = SamplingSettings(max_tokens=40, temperature=1.0)
        sampler = domain.sampler(start, model_id="start")
        samples = sampler.sample(prompts, sampling, num_samples=each, seed=0)
        features = domain.scorer(start, seed=0).embed(samples)
    centred = (features - features.mean(0)) / features.std(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    reduced = centred @ directions[:axes].T
    np.savez(
        file,
        features=(reduced / reduced.std(0)).reshape(len(prompts), each, axes),
        gold=np.array([sentiment_gold(s) for s in samples]).reshape(len(prompts), each),
    )


def report(options: argparse.Namespace, curves: dict[str, np.ndarray]) -> None:
    """Curves are (seeds, rounds, measures)."""
    given = {k: v for k, v in vars(options).items() if k not in ("replies", "workers")}
    labels = options.number * np.arange(1, options.rounds + 1)
    for strategy, curve in curves.items():
        for place, number in enumerate(labels):
            line = {"benchmark": "label_efficiency", "strategy": strategy, "labels": int(number)}
            for i, name in enumerate(("accuracy", "correlation", "heldout_bias")):
                line[name] = _interval(curve[:, place, i])
                line[f"{name}_over_random"] = _interval(
                    curve[:, place, i] - curves["random"][:, place, i]
                )
            print(json.dumps({**line, **given}), flush=True)
    needed = {strategy: _needed(curves, strategy, labels) for strategy in curves}
    for strategy, found in needed.items():
        print(json.dumps({"benchmark": "labels_needed", "strategy": strategy, **found, **given}))
    shown = labels[1::2]
    heads = ["strategy", *(f"{n} labels" for n in shown), "correlation", "labels needed", "bias"]
    print(" | ".join(heads), file=sys.stderr)
    for strategy, curve in curves.items():
        cells = [_told(_interval(100 * curve[:, n // options.number - 1, 0])) for n in shown]
        last = _told(_interval(curve[:, -1, 1]), 3)
        ratio = needed[strategy]["ratio"]
        bias = _told(_interval(100 * curve[:, -1, 2]))
        print(" | ".join([strategy, *cells, last, _told(ratio, 2), bias]), file=sys.stderr)


def _needed(curves, strategy: str, labels: np.ndarray) -> dict:
    """Labels to reach random's best, as a share of those it takes itself; None: more than all."""
    rng = np.random.default_rng(0)
    seeds = len(curves["random"])
    draws = [np.arange(seeds), *(rng.integers(seeds, size=seeds) for _ in range(2000))]
    ratios = []
    for places in draws:
        target = curves["random"][places, :, 0].mean(0).max()
        own, base = (
            _reached(curves[name][places, :, 0].mean(0), labels, target)
            for name in (strategy, "random")
        )
        ratios.append(own / base)
    # Of the draws, not between two of them: beyond the last may lie infinity.
    low, high = np.quantile(ratios[1:], [0.025, 0.975], method="nearest")
    target = float(curves["random"][:, :, 0].mean(0).max())
    found = {"value": ratios[0], "low": float(low), "high": float(high)}
    ratio = {name: value if np.isfinite(value) else None for name, value in found.items()}
    return {"target": target, "ratio": ratio}


def _reached(curve: np.ndarray, labels: np.ndarray, target: float) -> float:
    """Labels at which a curve reaches the target, between two budgets by a line; or infinity."""
    above = np.flatnonzero(curve >= target)
    if not len(above):
        return float("inf")
    place = above[0]
    if place == 0:
        return float(labels[0])
    share = (target - curve[place - 1]) / (curve[place] - curve[place - 1])
    return float(labels[place - 1] + share * (labels[place] - labels[place - 1]))


def _interval(values: np.ndarray) -> dict[str, float]:
    mean, error = float(values.mean()), float(stats.sem(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return {"value": mean, "low": mean - half, "high": mean + half}


def _told(found: dict[str, float | None], digits: int = 1) -> str:
    """In words; None is what was not reached."""
    words = {k: "more" if v is None else f"{v:.{digits}f}" for k, v in found.items()}
    return f"{words['value']} [{words['low']}, {words['high']}]"


if __name__ == "__main__":
    main()
