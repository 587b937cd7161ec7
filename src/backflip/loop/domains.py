"""Which domain a recipe speaks of."""

from backflip.algorithms import consumes
from backflip.config import ModelSettings
from backflip.errors import SettingsError
from backflip.loop.recipe import Recipe
from backflip.models import BUILTIN_MODELS
from backflip.training import Domain
from backflip.workspace import Workspace


def make_domain(recipe: Recipe, workspace: Workspace) -> Domain:
    """The domain of a recipe's prompts: an environment's for `env:ID`, else a language model's."""
    gold = recipe.feedback.gold if recipe.feedback.source == "teachers" else None
    if recipe.prompts.source.startswith("env:"):
        try:
            from backflip.training.domains.agents import AgentDomain
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"environments need {error.name}", hint='Install it: pip install "backflip[agents]"'
            ) from None
        return AgentDomain(prompts=recipe.prompts, gold=gold, seed=recipe.seed)
    from backflip.training.domains.text import TextDomain

    def placed(model: ModelSettings) -> ModelSettings:
        return model.model_copy(update={"name": model_place(model.name, workspace)})

    return TextDomain(
        model=placed(recipe.model),
        prompts=recipe.prompts,
        sampling=recipe.sampling,
        reward=recipe.reward.model_copy(update={"model": placed(recipe.reward.model)}),
        pretrain=recipe.pretrain,
        sft=recipe.sft,
        gold=gold,
        seed=recipe.seed,
        trains_reward=consumes(recipe.algorithm) == "rollouts",
    )


def model_place(name: str, workspace: Workspace) -> str:
    """The folder of a model of the workspace; any other name as it is."""
    known = {m.id for m in workspace.models.all()} | {m.name for m in workspace.models.all()}
    if name not in known or name in BUILTIN_MODELS:
        return name
    return str(workspace.models.folder(workspace.models.get(name)))
