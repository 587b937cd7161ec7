"""What no single setting tells: recipes that could only fail late, or would ignore a setting."""

from collections.abc import Callable

from backflip.algorithms import consumes, type_of
from backflip.loop.recipe_settings import RecipeSettings
from backflip.records.feedback import GENERAL_AXIS, KINDS, WRITTEN_KINDS, Comparison


def faults(recipe: RecipeSettings) -> list[str]:
    """What is wrong with a recipe as a whole; each fault begins with the key to change."""
    found = [fault for rule in RULES if (fault := rule(recipe)) is not None]
    return found + recipe.algorithm.faults(in_environment=_in_environment(recipe))


def _in_environment(recipe: RecipeSettings) -> bool:
    return recipe.prompts.source.startswith("env:")


def _number(recipe: RecipeSettings) -> str | None:
    feedback = recipe.feedback
    for kind in sorted(feedback.kinds):
        least = KINDS[kind].question.samples[0]
        if feedback.samples_per_prompt < least:
            return f"feedback: {kind} needs samples_per_prompt of at least {least}"
    return None


def _filters(recipe: RecipeSettings) -> str | None:
    if consumes(recipe.algorithm) == "rollouts" and not recipe.sampling.is_plain:
        return (
            f"sampling: {type_of(recipe.algorithm)} learns from the policy's own distribution; "
            "leave top_k, top_p and min_p off and the temperature above 0"
        )
    return None


def _gold(recipe: RecipeSettings) -> str | None:
    if _in_environment(recipe) and recipe.feedback.gold == "sentiment":
        return 'feedback.gold: an environment\'s clips have gold "environment"'
    return None


def _clips(recipe: RecipeSettings) -> str | None:
    if not _in_environment(recipe):
        return None
    if recipe.feedback.source == "judge":
        return "feedback.source: a judge reads text, not what an agent did; ask teachers or people"
    written = [kind for kind in recipe.feedback.kinds if kind in WRITTEN_KINDS]
    if recipe.feedback.source == "teachers" and written:
        return (
            "feedback.kinds: simulated teachers cannot write a clip, so they give no "
            f"{' and no '.join(written)} in an environment; ask for kinds that judge what the "
            "agent did, like comparison, ranking or rating"
        )
    return None


def _agent(recipe: RecipeSettings) -> str | None:
    model = recipe.model
    ignored = [name for name in ("name", "lora") if getattr(model, name) != _default(model, name)]
    if _in_environment(recipe) and ignored:
        return (
            f"model.{ignored[0]}: an agent in an environment starts from random weights of its "
            "own; leave it out"
        )
    return None


def _default(settings: object, name: str) -> object:
    return type(settings).model_fields[name].default  # pyright: ignore


def _judge(recipe: RecipeSettings) -> str | None:
    feedback = recipe.feedback
    if feedback.source != "judge":
        return None
    judged = Comparison.kind_name()
    other = [kind for kind in feedback.kinds if kind != judged]
    if other:
        return (
            f"feedback.kinds: a judge compares; it gives no {' and no '.join(other)}. "
            f'Set feedback.kinds to ["{judged}"]'
        )
    if feedback.overlap > 1:
        return "feedback.overlap: there is one judge, so it is 1"
    return None


def _crowd(recipe: RecipeSettings) -> str | None:
    feedback = recipe.feedback
    number = sum(group.count for group in feedback.teachers)
    if feedback.source == "teachers" and feedback.overlap > number:
        return (
            f"feedback.overlap: {feedback.overlap} different annotators are asked for, and there "
            f"are {number} teachers; lower it, or raise the count of a group of teachers"
        )
    return None


def _pairs(recipe: RecipeSettings) -> str | None:
    feedback = recipe.feedback
    # All that the workspace holds may have pairs that this run's own questions do not give.
    if consumes(recipe.algorithm) != "pairs" or feedback.use == "workspace":
        return None
    *most, last = (name for name, kind in KINDS.items() if kind.decides_pairs)
    if set(feedback.kinds) & {*most, last}:
        return None
    return (
        f"feedback.kinds: {type_of(recipe.algorithm)} learns from pairs, and no "
        f"{' or '.join(feedback.kinds)} gives one; add {', '.join(most)} or {last}"
    )


def _axes(recipe: RecipeSettings) -> str | None:
    feedback = recipe.feedback
    if consumes(recipe.algorithm) != "rollouts" or feedback.use == "workspace":
        return None
    own = {KINDS[kind].own_axis() or GENERAL_AXIS for kind in feedback.kinds}
    unasked = [axis for axis in recipe.reward.axes if axis not in own]
    if GENERAL_AXIS in own or not unasked:
        return None
    return (
        f"reward.axes: nobody is asked about {unasked[0]!r}, since {' and '.join(feedback.kinds)} "
        f"judge {' and '.join(sorted(own))} alone; set feedback.kinds, or reward.axes"
    )


def _selection(recipe: RecipeSettings) -> str | None:
    settings, reward = recipe.feedback.selection, recipe.reward
    key, strategy = "feedback.selection.strategy", settings.strategy
    if strategy == "random":
        return None
    if settings.random_share < reward.heldout:
        return (
            f"feedback.selection.random_share: {settings.random_share:g} of the questions are "
            f"drawn at random, too few to hold out {reward.heldout:g} of them "
            "(reward.heldout); raise the one, or lower the other"
        )
    if strategy == "diverse":
        return None
    if consumes(recipe.algorithm) == "pairs":
        return (
            f"{key}: {strategy} goes by reward models, and {type_of(recipe.algorithm)} trains "
            "none; take diverse or random"
        )
    if recipe.loop.rounds == 1:
        return (
            f"{key}: {strategy} goes by the reward models of the round before, and loop.rounds is "
            "1; set more rounds, or take diverse or random"
        )
    if strategy == "disagreement" and reward.ensemble < 2:
        return f"{key}: one reward model cannot disagree; set reward.ensemble to 2 or more"
    return None


def _positions(recipe: RecipeSettings) -> str | None:
    scratch = recipe.pretrain.scratch if recipe.pretrain else None
    if scratch is None or recipe.sampling.max_tokens < scratch.max_positions:
        return None
    return (
        f"sampling.max_tokens: {recipe.sampling.max_tokens} tokens and a prompt do not fit in the "
        f"{scratch.max_positions} of pretrain.scratch.max_positions"
    )


RULES: tuple[Callable[[RecipeSettings], str | None], ...] = (
    _number,
    _filters,
    _gold,
    _clips,
    _agent,
    _judge,
    _crowd,
    _pairs,
    _axes,
    _selection,
    _positions,
)
