"""What a user can mend is told in words: no trace, the right status, JSON for programs."""

import subprocess
import sys
from pathlib import Path

import pytest
from cli_desk import Outcome, backflip

from backflip.workspace import Workspace

MISTAKES = {
    "unknown setting": (["run", "tiny.toml", "loop.ronds=3"], ["tiny.toml", "'loop.rounds'"]),
    "value out of range": (["run", "tiny.toml", "loop.rounds=0"], ["loop.rounds"]),
    "no override": (["run", "tiny.toml", "rounds"], ["'rounds'", "key.path=value"]),
    "override of a value": (["run", "tiny.toml", "name.x=1"], ["name.x", "has no keys"]),
    "unknown algorithm": (["run", "tiny.toml", "algorithm=grpo"], ["'grpo'", "'ppo'"]),
    "settings that do not go together": (
        ["run", "tiny.toml", "sampling.top_k=5"],
        ["top_k", "ppo"],
    ),
    "no recipe": (["run", "nowhere.toml"], ["nowhere.toml", "demo"]),
    "no TOML": (["run", "text.txt"], ["text.txt", "TOML", "line 1"]),
    "no prompts": (["run", "tiny.toml", "prompts.source=gone.txt"], ["gone.txt"]),
    "too few prompts": (["run", "tiny.toml", "prompts.heldout=99"], ["99", "heldout"]),
    "no text": (["pretrain", "tiny.toml", "pretrain.text=['gone.txt']"], ["gone.txt"]),
    "no stage": (["pretrain", "point.toml"], ["[pretrain]", "point.toml"]),
    "agents read no text": (["sft", "point.toml", "sft.epochs=1"], ["agent", "text"]),
    "axis without feedback": (
        ["reward", "point.toml", "reward.axes=['kind']", "-w", "agents"],
        ["'kind'", "overall"],
    ),
    "no workspace": (["models", "-w", "gone"], ["gone", "no workspace"]),
    "no run": (["report", "-w", "empty"], ["no run", "empty"]),
    "no such run": (["report", "run-x", "-w", "agents"], ["run-x", "point"]),
    "no such model": (["lineage", "nobody", "-w", "agents"], ["nobody", "point/round-1/policy"]),
    "no such start": (["sample", "point.toml", "-m", "nobody", "-w", "agents"], ["nobody"]),
    "no model at all": (["chat", "nobody", "--prompt", "x"], ["nobody", "smollm2-135m-instruct"]),
    "agents do not talk": (["chat", "point/round-1/policy", "-w", "agents"], ["environment"]),
    "a reward does not act": (
        ["evaluate", "point/round-1/reward/overall-0", "point.toml", "-w", "agents"],
        ["reward model"],
    ),
    "no feedback": (["reward", "point.toml", "-w", "empty"], ["no feedback", "import"]),
    "no snapshot": (["reward", "point.toml", "--snapshot", "s", "-w", "agents"], ["'s'"]),
    "no reward model": (["policy", "point.toml", "-w", "agents"], ["ppo", "--reward"]),
    "no such axis": (
        ["policy", "point.toml", "-w", "agents", "--reward", "kind=point/round-1/reward/overall-0"],
        ["'overall'"],
    ),
    "a policy is no reward": (
        ["policy", "point.toml", "-w", "agents", "--reward", "point/round-1/policy"],
        ["policy model"],
    ),
    "ppo takes no snapshot": (
        ["policy", "point.toml", "-w", "agents", "--snapshot", "s"],
        ["ppo", "--snapshot"],
    ),
    "dpo takes no reward": (
        ["policy", "point.toml", "algorithm=dpo", "--reward", "x", "-w", "agents"],
        ["dpo", "--reward"],
    ),
    "no file to import": (["feedback", "import", "gone.jsonl"], ["gone.jsonl"]),
    "no such format": (["feedback", "import", "bench.jsonl", "--format", "x"], ["'x'", "hh"]),
    "no such ending": (["feedback", "export", "x.txt", "-w", "agents"], ["x.txt", ".jsonl"]),
    "no such kind": (
        ["feedback", "export", "x.jsonl", "--kind", "vote", "-w", "agents"],
        ["'vote'", "comparison"],
    ),
    "no entry": (["feedback", "revoke", "--entry", "e", "--reason", "r", "-w", "agents"], ["'e'"]),
    "nobody": (
        ["feedback", "revoke", "--annotator", "a", "--reason", "r", "-w", "agents"],
        ["'a'"],
    ),
    "no terminal": (["label", "--terminal", "-w", "agents"], ["terminal"]),
    "no run to answer": (["label", "--terminal", "--run", "run-x", "-w", "agents"], ["run-x"]),
    "neither recipe nor terminal": (["label"], ["--terminal", "recipe"]),
    "both": (["label", "point.toml", "--terminal"], ["--terminal", "recipe"]),
    "no database": (
        ["feedback", "import", "bench.jsonl", "--database", "mysql://x/y", "-w", "new"],
        ["mysql", "postgresql://"],
    ),
    "another database": (
        ["run", "point.toml", "--database", "postgresql://x/y", "-w", "agents"],
        ["--database"],
    ),
}


@pytest.fixture(scope="module", autouse=True)
def places(desk: Path, agent_run: Outcome) -> None:
    Workspace.create("empty").close()


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_words(name: str) -> None:
    arguments, told = MISTAKES[name]
    plain, machine = backflip(*arguments), backflip(*arguments, "--json")
    assert plain.code == machine.code == 1
    assert plain.out == ""
    assert "Traceback" not in plain.err
    error = machine.json["error"]
    assert set(error) == {"what", "where", "hint"}
    for fragment in told:
        assert fragment in plain.err
        assert any(fragment in (part or "") for part in error.values())


def test_a_gone_reading_program_is_no_fault(desk: Path) -> None:
    command = f"'{Path(sys.executable).parent / 'backflip'}' --help | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
