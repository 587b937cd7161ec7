"""A recipe of two rounds in which a strategy picks, and what can be read off its run."""

from hashlib import blake2b
from typing import Any

from loop_helpers import agent_recipe

from backflip.loop import Run
from backflip.records import Sample, derive_seed
from backflip.workspace import Workspace
from stored_results import stored

Result = dict[str, Any]
NUMBER = 14
"""Pairs that a round of the agent's recipe asks about; there are 24 prompts to train on."""


def picking(strategy: str, change: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Two rounds of an agent with an ensemble of three, which hold out a quarter."""
    selection = {"strategy": strategy, "random_share": 0.4, **(change or {})}
    if strategy == "random":
        del selection["random_share"]
    data = agent_recipe(feedback={"gold": "environment", "prompts": NUMBER, "selection": selection})
    data["reward"]["ensemble"] = 3
    data["algorithm"] |= {"steps": 1, "epochs": 1, "minibatches": 1}
    return data | more


def results(workspace: Workspace, run: Run) -> dict[str, Result]:
    return stored(workspace, run.id)


def sets_of(result: Result, by_lot: bool) -> list[tuple[str, ...]]:
    return [tuple(a["samples"]) for a in result["asked"] if a["by_lot"] is by_lot]


def heldout_prompts(run: Run, samples: list[Sample]) -> set[str]:
    """Prompts below a quarter of the scale that `split_by_prompt` lays them on."""
    seed = derive_seed(run.recipe.seed, "heldout")

    def place(prompt: str) -> float:
        digest = blake2b(f"{seed}:{prompt}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64

    return {s.prompt_id for s in samples if place(s.prompt_id) < 0.25}


def pool_in(workspace: Workspace, kept: dict[str, Result], number: int) -> list[Sample]:
    ids = kept[f"round-{number}/sample"]["samples"]
    found = workspace.samples.get(ids)
    return [found[i] for i in ids]
