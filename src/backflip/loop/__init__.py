"""The loop: recipes, rounds, stages and their resumption."""

from backflip.loop.domains import make_domain
from backflip.loop.recipe import Recipe, load_recipe, shipped_recipes
from backflip.loop.run import Run
from backflip.loop.stage import Stage

__all__ = [
    "Recipe",
    "Run",
    "Stage",
    "load_recipe",
    "make_domain",
    "shipped_recipes",
]
