"""What a recipe may say: the settings of every part of a run, each held to its own bounds."""

import operator
from functools import reduce
from typing import TYPE_CHECKING, Any

from pydantic import Field

from backflip.algorithms import ALGORITHMS, AlgorithmSettings, PPOSettings
from backflip.config import (
    EvaluationSettings,
    FeedbackSettings,
    LoopSettings,
    ModelSettings,
    PretrainSettings,
    PromptSettings,
    RewardSettings,
    SamplingSettings,
    Settings,
    SftSettings,
)
from backflip.config.bounds import Name, Seed, Text
from backflip.config.identity import ADDED, knob


def _any_algorithm() -> Any:
    """The settings of every algorithm that is registered now."""
    return reduce(operator.or_, [each.settings_type for each in ALGORITHMS.values()])


if TYPE_CHECKING:
    Algorithm = AlgorithmSettings
else:
    Algorithm = _any_algorithm()


class RecipeSettings(Settings):
    """The settings of a run; `Recipe` holds them to one another, too."""

    name: Name = Field(
        default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="of the run, for people"
    )
    seed: Seed = Field(default=0, description="all random decisions follow from it")
    model: ModelSettings = Field(
        default=ModelSettings(), description="the model that the run starts from"
    )
    prompts: PromptSettings = Field(
        default=PromptSettings(), description="what the policy is asked"
    )
    pretrain: PretrainSettings | None = Field(default=None, description="none: no such stage")
    sft: SftSettings | None = Field(default=None, description="none: no such stage")
    sampling: SamplingSettings = Field(
        default=SamplingSettings(), description="how replies are drawn"
    )
    feedback: FeedbackSettings = Field(
        default=FeedbackSettings(), description="who judges, how many samples, in which kinds"
    )
    reward: RewardSettings = Field(default=RewardSettings(), description="the reward model")
    algorithm: Algorithm = Field(
        default_factory=PPOSettings,
        discriminator="type",
        description="how the policy is trained, told by its type",
    )
    evaluation: EvaluationSettings = Field(
        default=EvaluationSettings(), description="how the policy is measured"
    )
    loop: LoopSettings = Field(default=LoopSettings(), description="rounds and checkpoints")
    extensions: tuple[Text, ...] = Field(
        default=(),
        max_length=100,
        description="modules, or .py files beside the recipe, that bring kinds of feedback, "
        "algorithms, environments or formats, and are imported before the rest is read",
        json_schema_extra={**ADDED, **knob()},
        exclude_if=operator.not_,  # so that recipes without have the ids that they had before
    )


def take_algorithms(*recipes: type[RecipeSettings]) -> None:
    """Have recipes know the algorithms that were registered since these classes were made."""
    known = _any_algorithm()
    for each in recipes:
        field = each.__pydantic_fields__["algorithm"]
        if field.annotation != known:
            field.annotation = known
            each.model_rebuild(force=True)
