"""Tokens a second and peak memory of every stage on a tiny model, one JSON line each.

    python benchmarks/speed.py [STAGE ...] [--model FOLDER] [--precision P] [--threads N]
        [--batch N] [--prompt-tokens P] [--reply-tokens T] [--repeat N]

Without --model, a Llama of four layers and width 256 with a tokenizer of 2,048 tokens is made from
the package's own prompts. Every prompt has exactly P tokens and every reply that is learned from
exactly T. Each stage runs in a process of its own, so that its peak memory is its own; the first
step is not timed. Figures of one machine mean little beside those of another: compare ratios taken
in one run.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="*", default=list(STAGES))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32, help="prompts; for reward and dpo, pairs")
    parser.add_argument("--prompt-tokens", type=int, default=32)
    parser.add_argument("--reply-tokens", type=int, default=64)
    parser.add_argument("--micro-batch-tokens", type=int, default=4096)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        measure(options.stages[0], options)
        return
    with tempfile.TemporaryDirectory() as folder:
        options.model = options.model or make_tiny(Path(folder) / "tiny")
        given = [
            part
            for name, value in vars(options).items()
            if name not in ("stages", "child")
            for part in (f"--{name.replace('_', '-')}", str(value))
        ]
        for stage in options.stages:
            subprocess.run([sys.executable, __file__, stage, "--child", *given], check=True)


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


def measure(stage: str, options: argparse.Namespace) -> None:
    import torch

    torch.set_num_threads(options.threads)
    step = PREPARED[stage](Bench(options))
    step(0)
    rates = []
    for number in range(1, options.repeat + 1):
        start = time.perf_counter()
        tokens = step(number)
        rates.append(tokens / (time.perf_counter() - start))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    row = {
        "stage": stage,
        "tokens_per_second": round(statistics.median(rates), 1),
        "lowest": round(min(rates), 1),
        "highest": round(max(rates), 1),
        "peak_memory_mib": memory,
    }
    given = {
        name: value for name, value in vars(options).items() if name not in ("stages", "child")
    }
    given["model"] = options.model.name
    print(json.dumps({**row, **given, "torch": torch.__version__}), flush=True)


class Bench:
    """Prompts, replies and settings that all stages share."""

    def __init__(self, options: argparse.Namespace):
        from backflip.config import (
            ModelSettings,
            OptimizerSettings,
            PromptSettings,
            RewardSettings,
            SamplingSettings,
            SftSettings,
        )
        from backflip.data import Chat
        from backflip.models import load_tokenizer
        from backflip.training.domains.text import TextDomain

        self.model: Path = options.model
        self.batch: int = options.batch
        self.reply_tokens: int = options.reply_tokens
        settings = ModelSettings(name=str(self.model), precision=options.precision)
        self.optimizer = OptimizerSettings(micro_batch_tokens=options.micro_batch_tokens)
        self.sampling = SamplingSettings(max_tokens=self.reply_tokens, batch_size=64)
        self.domain = TextDomain(
            model=settings,
            prompts=PromptSettings(),
            sampling=self.sampling,
            reward=RewardSettings(model=settings, batch_size=self.batch, optimizer=self.optimizer),
            sft=SftSettings(batch_size=self.batch, optimizer=self.optimizer),
        )
        self.tokenizer = load_tokenizer(str(self.model))
        self.chat = Chat(self.tokenizer)
        self.prompts = [self.prompt(i, options.prompt_tokens) for i in range(self.batch)]

    def prompt(self, number: int, length: int):
        """A prompt that the tokenizer reads as `length` tokens, its template with it."""
        import random

        from backflip.records import Prompt

        source = random.Random(number)
        for _ in range(1000):
            text = f"{number}:"
            while True:
                prompt = Prompt.from_text(text)
                found = len(self.chat.encode_prompt(prompt))
                if found >= length:
                    break
                text += source.choice((" a", " be", " sea", "d", "ing", " two", "s"))
            if found == length:
                return prompt
        raise SystemExit(f"no prompt of {length} tokens: the template alone may have more")

    def replies(self, each: int):
        """`each` replies to every prompt, of random tokens, ending with the end token."""
        import numpy as np

        from backflip.records import Completion, Sample

        rng = np.random.default_rng(0)
        common = [i for i in range(len(self.tokenizer)) if i not in self.tokenizer.all_special_ids]
        made = []
        for prompt in self.prompts:
            prompt_tokens = self.chat.encode_prompt(prompt)
            for index in range(each):
                tokens = rng.choice(common, self.reply_tokens).astype(np.int32)
                tokens[-1] = self.chat.end_token
                completion = Completion(
                    text=self.chat.decode_reply(tokens),
                    tokens=tokens,
                    prompt_tokens=prompt_tokens,
                    logprobs=np.zeros(self.reply_tokens, np.float32),
                    finish="stop",
                )
                made.append(Sample.of(prompt, completion, index=index))
        return made


def prepare_sample(bench: Bench) -> Callable[[int], float]:
    sampler = bench.domain.sampler(bench.model, model_id="tiny")

    def step(number: int) -> float:
        drawn = sampler.sample(bench.prompts, bench.sampling, seed=number)
        return float(sum(len(s.completion.tokens) for s in drawn))

    return step


def prepare_sft(bench: Bench) -> Callable[[int], float]:
    from backflip.training.trainers.language import finetuning

    shown = bench.replies(1)
    trainee = finetuning(bench.domain.policy(bench.model, seed=0), shown, bench.domain.sft, seed=0)
    tokens = _tokens(shown)

    def step(number: int) -> float:
        trainee.step(0)
        return tokens

    return step


def prepare_reward(bench: Bench) -> Callable[[int], float]:
    from backflip.records.feedback import Comparison
    from backflip.rewards import AnnotatorModel, RewardFit
    from backflip.training import RewardTrainer

    drawn = bench.replies(2)
    votes = [
        Comparison(annotator="bench", samples=(a.id, b.id), choice="a")
        for a, b in zip(drawn[::2], drawn[1::2], strict=True)
    ]
    settings = bench.domain.reward_settings
    scorer = bench.domain.scorer(bench.model, seed=0)
    samples = {sample.id: sample for sample in drawn}
    fitted = RewardFit(scorer, AnnotatorModel.of(votes, settings), votes, samples, settings, 0)
    trainee = RewardTrainer(fitted, settings)
    return lambda number: trainee.step(0)["tokens"]


def prepare_dpo(bench: Bench) -> Callable[[int], float]:
    from backflip.algorithms import DPO, DPOSettings
    from backflip.training import Learner, PreferenceTrainer

    drawn = bench.replies(2)
    learner = Learner(
        bench.domain.policy(bench.model, seed=0),
        bench.optimizer,
        total_updates=1,
        reference=bench.domain.frozen(bench.model),
    )
    trainee = PreferenceTrainer(
        algorithm=DPO(DPOSettings(batch_size=bench.batch)),
        learner=learner,
        pairs=list(zip(drawn[::2], drawn[1::2], strict=True)),
        collate=bench.domain.collate,
        seed=0,
    )
    tokens = _tokens(drawn)

    def step(number: int) -> float:
        trainee.step(0)
        return tokens

    return step


def prepare_ppo(bench: Bench) -> Callable[[int], float]:
    from backflip.algorithms import PPO, PPOSettings
    from backflip.training import Learner, OnPolicyTrainer

    domain, model = bench.domain, bench.model
    settings = PPOSettings(prompts_per_step=bench.batch, epochs=1, optimizer=bench.optimizer)
    learner = Learner(
        domain.policy(model, seed=0),
        bench.optimizer,
        total_updates=1,
        reference=domain.frozen(model),
        value=domain.scorer(model, seed=0).scorer,
    )
    trainee = OnPolicyTrainer(
        algorithm=PPO(settings),
        learner=learner,
        sampler=domain.sampler(model, model_id="tiny"),
        reward=domain.scorer(model, seed=1),
        prompts=bench.prompts,
        sampling=bench.sampling,
        collate=domain.collate,
        seed=0,
        precision=domain.precision,
        spell=domain.spell,
    )

    def step(number: int) -> float:
        metrics = trainee.step(number)
        return metrics["num_samples"] * metrics["length"]

    return step


PREPARED = {
    "sample": prepare_sample,
    "sft": prepare_sft,
    "reward": prepare_reward,
    "dpo": prepare_dpo,
    "ppo": prepare_ppo,
}


def _tokens(samples) -> float:
    return float(sum(len(s.completion.prompt_tokens) + len(s.completion.tokens) for s in samples))


if __name__ == "__main__":
    main()
