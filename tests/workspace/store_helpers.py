"""What the store's tests share: a few samples, and workers that are run as processes."""

import json
import sys

import numpy as np

from backflip.records import Clip, Completion, Prompt, Sample


def completion_sample(number: int, prompt: int = 0, model: str | None = "model-1") -> Sample:
    tokens = np.arange(number, number + 3, dtype=np.int32)
    completion = Completion(
        text=f"reply {number}",
        prompt_tokens=np.arange(2, dtype=np.int32),
        tokens=tokens,
        logprobs=np.linspace(-1.0, -0.1, 3, dtype=np.float32),
        finish="stop",
    )
    asked = Prompt.from_text(f"question {prompt}", source="test")
    return Sample.of(asked, completion, model=model, seed=7, index=number, weights_version=3)


def clip_sample(seed: int) -> Sample:
    generator = np.random.default_rng(seed)
    clip = Clip(
        environment="CartPole-v1",
        observations=generator.normal(size=(6, 4)).astype(np.float32),
        actions=generator.integers(2, size=5),
        logprobs=generator.normal(size=5).astype(np.float32),
        rewards=np.ones(5, np.float32),
        terminated=True,
        truncated=False,
    )
    prompt = Prompt(content={"type": "situation", "environment": "CartPole-v1", "seed": seed})
    return Sample.of(prompt, clip, model="agent-1", seed=seed, index=0)


def tell(value: object) -> None:
    """A worker's line to the test that started it."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()
