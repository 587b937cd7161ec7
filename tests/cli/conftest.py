"""Workspaces that the commands made, each once for all tests."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_desk import Outcome, done

SUBJECTS = ("the cat", "a dog", "my friend", "the rain", "our garden", "a letter")
VERBS = ("sleeps near", "walks past", "remembers", "waits for", "sings to")
ENDS = ("good", "bad", "happy", "sad", "wonderful", "terrible")

TEXT = """
name = "tiny"

[prompts]
source = "prompts.txt"
heldout = 6

[model]
precision = "float32"

[pretrain]
text = ["text.txt"]
sequence_length = 32
batch_size = 4
steps = 3

[pretrain.scratch]
width = 16
layers = 1
heads = 2
vocabulary = 300

[sft]
data = ["demonstrations.jsonl"]
sequence_length = 128
batch_size = 8

[sampling]
max_tokens = 6

[feedback]
kinds = ["comparison", "rating"]
prompts = 20

[reward]
batch_size = 16
heldout = 0.3

[reward.model]
precision = "float32"

[algorithm]
type = "ppo"
steps = 2
prompts_per_step = 6
epochs = 1

[evaluation]
prompts = 6
examples = 2

[loop]
rounds = 1
"""

AGENT = """
name = "point"

[prompts]
source = "env:backflip/Point-v0"
heldout = 4
limit = 24

[sampling]
max_tokens = 6

[feedback]
gold = "environment"
prompts = 20
poll_seconds = 0.05

[[feedback.teachers]]
beta = 5.0
count = 2

[reward]
epochs = 2
heldout = 0.3

[reward.optimizer]
learning_rate = 3e-3

[algorithm]
type = "ppo"
steps = 2
prompts_per_step = 8
epochs = 1

[algorithm.optimizer]
learning_rate = 3e-3

[evaluation]
prompts = 4

[loop]
rounds = 1
"""


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of recipes, texts and prompts, from which the commands are run."""
    folder = tmp_path_factory.mktemp("desk")
    draw = random.Random(0)
    lines = [
        f"{draw.choice(SUBJECTS)} {draw.choice(VERBS)} {draw.choice(SUBJECTS)}, it is "
        f"{draw.choice(ENDS)}."
        for _ in range(80)
    ]
    prompts = [f"Tell me how {subject} {verb} us." for subject in SUBJECTS for verb in VERBS]
    (folder / "text.txt").write_text("\n".join(lines))
    (folder / "prompts.txt").write_text("\n".join(prompts))
    rows = [{"prompt": p, "completion": line} for p, line in zip(prompts, lines, strict=False)]
    (folder / "demonstrations.jsonl").write_text("\n".join(map(json.dumps, rows)))
    bench = [
        {"id": i, "subset": "easy", "prompt": p, "chosen": f"{i} good", "rejected": f"{i} bad"}
        for i, p in enumerate(prompts[:5])
    ]
    (folder / "bench.jsonl").write_text("\n".join(map(json.dumps, [*bench, {"prompt": "no"}])))
    (folder / "tiny.toml").write_text(TEXT)
    (folder / "point.toml").write_text(AGENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("BACKFLIP_WORKSPACE", raising=False)
        yield folder


@pytest.fixture(scope="session")
def text_stages(desk: Path) -> dict[str, Outcome]:
    """Every stage of a language model's loop, each by its own command, in the workspace "text"."""
    outcomes: dict[str, Outcome] = {}

    def step(name: str, *arguments: str) -> Any:
        outcomes[name] = done(*arguments, "-w", "text", "--json")
        return outcomes[name].json

    step("pretrain", "pretrain", "tiny.toml")
    start = step("sft", "sft", "tiny.toml")["id"]
    step("sample", "sample", "tiny.toml")
    step("label", "label", "tiny.toml")
    reward = step("reward", "reward", "tiny.toml", "--bench", "bench.jsonl")
    (model,) = reward["rewards"]["overall"]
    step("ppo", "policy", "tiny.toml", "--reward", model)
    # Another algorithm is another recipe, and so another run: it begins with the model it is given.
    dpo = step("dpo", "policy", "tiny.toml", "algorithm=dpo", "-m", start)["id"]
    step("evaluate", "evaluate", dpo, "tiny.toml", "--reward", model)
    return outcomes


@pytest.fixture(scope="session")
def agent_run(desk: Path) -> Outcome:
    """A whole run of agents, in the workspace "agents"."""
    return done("run", "point.toml", "-w", "agents")
