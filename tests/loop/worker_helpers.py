"""What the tests of the worker share: asking for replies, and what `sample` says they must be."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from backflip.config import (
    ModelSettings,
    PromptSettings,
    RewardSettings,
    SamplingSettings,
)
from backflip.records import Dialogue, Message, Prompt, Sample
from backflip.reporter import Silent
from backflip.serving.worker import Worker
from backflip.training.domains.text import TextDomain
from backflip.workspace import Generation, ModelRecord, Workspace

FLOAT32 = ModelSettings(precision="float32")
HOT = {"temperature": 1.3, "top_k": 60, "top_p": 0.98, "min_p": 0.001, "max_tokens": 20}
PLAIN = {"max_tokens": 24, "stop": ["e"]}
TURNS = ("user", "assistant", "user")
CHAT = Prompt(
    content=Dialogue(messages=tuple(Message(role=role, content="Short.") for role in TURNS)),
    source="chat",
    split="heldout",
)
HELLO = Prompt.from_text("Hello? Wie geht es?", source="playground")
Ask = Callable[..., str]


def enter(workspace: Workspace, models: Path) -> Ask:
    """Put both models into a workspace; returns what asks for replies there."""
    shutil.copytree(models, workspace.artifacts / "models")
    for name in ("one", "two"):
        record = ModelRecord(id=f"model-{name}", name=name, stage="sft", path=f"models/{name}")
        workspace.models.register(record)
    user = workspace.people.add("mia").id

    def ask(model: str = "model-one", prompt: Prompt = HELLO, **values: Any) -> str:
        given = {"settings": PLAIN, "seed": 0, **values}
        settings = given.pop("settings")
        return workspace.generations.ask(user, "playground", model, prompt, settings, **given)

    return ask


def work(workspace: Workspace, **values: Any) -> tuple[dict[str, int], Silent]:
    """Draw what waits, with a look at every step that can be had."""
    reporter = Silent()
    made = Worker(workspace, settings=FLOAT32, look_seconds=0.0, reporter=reporter, **values)
    return made.run(once=True), reporter


def sampled(models: Path, asked: Generation) -> Sample:
    """What `backflip sample` draws with the same seed."""
    settings = SamplingSettings.parse(asked.settings)
    domain = TextDomain(
        model=FLOAT32, prompts=PromptSettings(), sampling=settings, reward=RewardSettings()
    )
    folder = models / asked.model.removeprefix("model-")
    sampler = domain.sampler(folder, model_id=asked.model)
    many = {"num_samples": asked.index + 1, "seed": asked.seed}
    return sampler.sample([HELLO, asked.prompt], settings, **many)[-1]


def check(workspace: Workspace, models: Path, name: str) -> None:
    """A reply is done, is what `sample` gives, and lies in the workspace as a sample."""
    asked = workspace.generations.get(name)
    assert asked.state == "done", asked.error
    expected = sampled(models, asked)
    assert asked.text == expected.text
    assert asked.sample_id is not None
    (found,) = workspace.samples.get([asked.sample_id]).values()
    for part in ("prompt", "model", "weights_version", "seed", "index", "settings", "text"):
        assert getattr(found, part) == getattr(expected, part)
    assert found.completion.finish == expected.completion.finish
    np.testing.assert_array_equal(found.completion.tokens, expected.completion.tokens)
    np.testing.assert_allclose(found.completion.logprobs, expected.completion.logprobs, atol=2e-5)


def long_seed(models: Path, settings: dict[str, Any]) -> int:
    """A seed whose reply is as long as it may be."""
    resolved = SamplingSettings.parse(settings).model_dump(mode="json", exclude={"batch_size"})
    for seed in range(99):
        asked = Generation.model_construct(
            model="model-one", prompt=HELLO, settings=resolved, seed=seed, index=0
        )
        if sampled(models, asked).completion.finish == "length":
            return seed
    raise AssertionError("no reply is long")
