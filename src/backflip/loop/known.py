"""Which run a recipe goes on with."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from backflip.config.identity import made_of
from backflip.errors import SettingsError
from backflip.workspace import Workspace

if TYPE_CHECKING:
    from backflip.loop.recipe import Recipe


def run_of(recipe: "Recipe", workspace: Workspace) -> str:
    """The id of the run in the workspace that a recipe goes on with, or of the one it begins.

    A run may go on with other limits and other use of memory and time, and with settings that came
    after it began, at their defaults: with all that `config.identity` calls knobs. Of several such
    runs it is the one that began with this very recipe, else the newest.
    """
    runs = workspace.runs.all()
    if any(run.id == recipe.run_id for run in runs):
        return recipe.run_id
    wanted = made_of(recipe)
    for run in reversed(runs):
        if run.recipe.get("name") != recipe.name or run.recipe.get("seed") != recipe.seed:
            continue
        try:
            kept = type(recipe).parse(run.recipe)
        except SettingsError:  # of a version that knew other settings
            continue
        if made_of(kept) == wanted:
            return run.id
    return recipe.run_id


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two recipes as they are kept, where both say something about it."""
    return list(_changes("", before, now))


def _changes(path: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in [key for key in now if key in before and before[key] != now[key]]:
        old, new = before[key], now[key]
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _changes(f"{path}{key}.", old, new)
        else:
            yield f"{path}{key} = {new!r} (was {old!r})"
