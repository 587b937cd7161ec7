"""Tokens a second and peak memory of every stage on a tiny model, one JSON line each.

    python benchmarks/speed.py [STAGE ...] [--model FOLDER] [--threads N] [--repeat N]

Without --model, a Llama of four layers and width 256 with a tokenizer of 2,048 tokens is made from
the package's own prompts. Each stage runs in a process of its own, so that its peak memory is its
own; the first step is not timed. Figures of one machine mean little beside those of another:
compare ratios taken in one run.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

STAGES = ("sample", "sft", "reward", "dpo", "ppo")
PROMPTS, REPLY_TOKENS = 32, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="*", default=list(STAGES))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        measure(options.stages[0], options.model, options.threads, options.repeat)
        return
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or make_tiny(Path(folder) / "tiny")
        for stage in options.stages:
            command = [sys.executable, __file__, stage, "--child", "--model", str(model)]
            command += ["--threads", str(options.threads), "--repeat", str(options.repeat)]
            subprocess.run(command, check=True)


def make_tiny(folder: Path) -> Path:
    """A small untrained model: speed does not depend on what the weights are."""
    from backflip.config import PromptSettings, ScratchSettings
    from backflip.data import load_prompts
    from backflip.models import make_model, save_model, train_tokenizer

    texts = [prompt.text for prompt in load_prompts(PromptSettings(), 0)]
    scratch = ScratchSettings(width=256, layers=4, heads=4, vocabulary=2048)
    tokenizer = train_tokenizer(texts, scratch.vocabulary)
    save_model(make_model(scratch, tokenizer, 0), tokenizer, folder)
    return folder


def measure(stage: str, model: Path, threads: int, repeat: int) -> None:
    import torch

    torch.set_num_threads(threads)
    step = prepare(stage, model)
    step(0)
    rates = []
    for number in range(1, repeat + 1):
        start = time.perf_counter()
        tokens = step(number)
        rates.append(tokens / (time.perf_counter() - start))
    print(
        json.dumps(
            {
                "stage": stage,
                "tokens_per_second": round(statistics.median(rates), 1),
                "lowest": round(min(rates), 1),
                "highest": round(max(rates), 1),
                "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "threads": threads,
                "repeat": repeat,
                "model": model.name,
                "torch": torch.__version__,
            }
        ),
        flush=True,
    )


def prepare(stage: str, model: Path) -> Callable[[int], float]:
    """A function that does one step of a stage and says how many tokens it was.

    Sampling and PPO count tokens drawn; the others count prompt and reply tokens read, both sides
    of a pair.
    """
    from backflip.config import (
        ModelSettings,
        OptimizerSettings,
        PromptSettings,
        RewardSettings,
        SamplingSettings,
        SftSettings,
    )
    from backflip.training.text import TextDomain

    settings = ModelSettings(name=str(model), precision="float32")
    optimizer = OptimizerSettings(micro_batch_tokens=100_000)
    reward = RewardSettings(model=settings, batch_size=PROMPTS, optimizer=optimizer)
    sampling = SamplingSettings(max_tokens=REPLY_TOKENS, batch_size=64)
    domain = TextDomain(
        model=settings,
        prompts=PromptSettings(heldout=16),
        sampling=sampling,
        reward=reward,
        sft=SftSettings(batch_size=PROMPTS, optimizer=optimizer),
        gold="sentiment",
    )
    prompts = domain.prompts()[:PROMPTS]
    sampler = domain.sampler(model, model_id="tiny")
    if stage == "sample":

        def draw(number: int) -> float:
            drawn = sampler.sample(prompts, sampling, seed=number)
            return float(sum(len(s.completion.tokens) for s in drawn))

        return draw
    pairs = sampling.model_copy(update={"num_samples": 2})
    drawn = sampler.sample(prompts, pairs, seed=0)
    return TRAINED[stage](domain, model, drawn, optimizer, sampling)


def prepare_sft(domain, model, drawn, optimizer, sampling) -> Callable[[int], float]:
    from backflip.training.language import finetuning

    policy = domain.policy(model, seed=0)
    trainee = finetuning(policy, drawn[::2], domain.sft, seed=0)
    tokens = _tokens(drawn[::2])

    def step(number: int) -> float:
        trainee.step(0)
        return tokens

    return step


def prepare_reward(domain, model, drawn, optimizer, sampling) -> Callable[[int], float]:
    from backflip.rewards import AnnotatorModel, RewardFit
    from backflip.training import RewardTraining

    entries = _votes(drawn)
    settings = domain.reward_settings
    scorer = domain.scorer(model, seed=0)
    samples = {sample.id: sample for sample in drawn}
    fitted = RewardFit(scorer, AnnotatorModel.of(entries, settings), entries, samples, settings, 0)
    trainee = RewardTraining(fitted, settings)
    return lambda number: trainee.step(0)["tokens"]


def prepare_dpo(domain, model, drawn, optimizer, sampling) -> Callable[[int], float]:
    from backflip.algorithms import DPO, DPOSettings
    from backflip.training import Learner, PairTraining

    learner = Learner(
        domain.policy(model, seed=0), optimizer, total_updates=1, reference=domain.frozen(model)
    )
    pairs = list(zip(drawn[::2], drawn[1::2], strict=True))
    trainee = PairTraining(
        algorithm=DPO(DPOSettings(batch_size=PROMPTS)),
        learner=learner,
        pairs=pairs,
        collate=domain.collate,
        seed=0,
    )
    tokens = _tokens(drawn)

    def step(number: int) -> float:
        trainee.step(0)
        return tokens

    return step


def prepare_ppo(domain, model, drawn, optimizer, sampling) -> Callable[[int], float]:
    from backflip.algorithms import PPO, PPOSettings
    from backflip.training import Learner, RolloutTraining

    settings = PPOSettings(prompts_per_step=PROMPTS, epochs=1, optimizer=optimizer)
    scorer = domain.scorer(model, seed=0)
    learner = Learner(
        domain.policy(model, seed=0),
        optimizer,
        total_updates=1,
        reference=domain.frozen(model),
        value=scorer.scorer,
    )
    trainee = RolloutTraining(
        algorithm=PPO(settings),
        learner=learner,
        sampler=domain.sampler(model, model_id="tiny"),
        reward=domain.scorer(model, seed=1),
        prompts=domain.prompts()[:PROMPTS],
        sampling=sampling,
        collate=domain.collate,
        seed=0,
    )

    def step(number: int) -> float:
        metrics = trainee.step(number)
        return metrics["num_samples"] * metrics["length"]

    return step


TRAINED = {
    "sft": prepare_sft,
    "reward": prepare_reward,
    "dpo": prepare_dpo,
    "ppo": prepare_ppo,
}


def _votes(drawn):
    from backflip.feedback.kinds import Comparison

    return [
        Comparison(annotator="bench", samples=(a.id, b.id), choice="a")
        for a, b in zip(drawn[::2], drawn[1::2], strict=True)
    ]


def _tokens(samples) -> float:
    return float(sum(len(s.completion.prompt_tokens) + len(s.completion.tokens) for s in samples))


if __name__ == "__main__":
    main()
