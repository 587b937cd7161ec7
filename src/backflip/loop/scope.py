"""What of a recipe a command carries out, and so what must be seen to work before it begins."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from backflip.algorithms import consumes

if TYPE_CHECKING:
    from backflip.loop.recipe import Recipe

StageName = Literal["pretrain", "sft", "sample", "label", "reward", "policy", "evaluate"]
"""The stages that have a command of their own."""


@dataclass(frozen=True)
class Scope:
    """What is used of a recipe, beside the model that it starts from and what prepares that.

    Attributes:
        whole: whether all is: each round goes on from what the one before gave.
        dialogues: whether dialogues are read: prompts, demonstrations or feedback.
        answered: sides of the prompts that a model answers.
        measured: whether a policy is measured on held-out prompts.
        asked: whether a round's questions are put together of the answers.
        teachers: whether simulated annotators are asked.
        judge: whether a judge is.
        told: whether feedback is learned from.
        reward: whether reward models are trained.
        algorithm: whether the policy is trained with the recipe's algorithm.
    """

    whole: bool = False
    dialogues: bool = True
    answered: tuple[str, ...] = ()
    measured: bool = False
    asked: bool = False
    teachers: bool = False
    judge: bool = False
    told: bool = False
    reward: bool = False
    algorithm: bool = False


def scope_of(recipe: "Recipe", stage: StageName | None = None) -> Scope:
    """What the command of a stage uses of a recipe; None for the whole loop."""
    online = consumes(recipe.algorithm) == "rollouts"
    teachers = recipe.feedback.source == "teachers"
    judge = recipe.feedback.the_judge is not None
    if stage is None:
        return Scope(
            whole=True,
            answered=("train", "heldout"),
            measured=True,
            asked=True,
            teachers=teachers,
            judge=judge,
            told=True,
            reward=online,
            algorithm=True,
        )
    scopes: dict[StageName, Scope] = {
        "pretrain": Scope(dialogues=False),
        "sft": Scope(),
        "sample": Scope(answered=("train",), asked=True),
        "label": Scope(answered=("train",), asked=True, teachers=teachers, judge=judge),
        # The scores of what the starting model says to held-out prompts are the zero and unit.
        "reward": Scope(answered=("heldout",), told=True, reward=True),
        "policy": Scope(answered=("train",) if online else (), told=not online, algorithm=True),
        # Where the gold measure is known, as it is with teachers, it decides.
        "evaluate": Scope(answered=("heldout",), measured=True, judge=judge and not teachers),
    }
    return scopes[stage]
