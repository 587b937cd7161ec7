"""A recipe: everything a run needs to know, and nothing it does not.

A recipe is a TOML file, then `key.path=value` on the command line; what comes out is kept with
the run. `Recipe.algorithm` takes the settings of any registered algorithm, told by its `type`.
"""

import difflib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails

from backflip.config import (
    FeedbackSettings,
    apply_overrides,
    lines_of,
    load_extensions,
    merge,
    read_toml,
)
from backflip.config.extensions import beside
from backflip.config.identity import named_by
from backflip.config.validation_errors import shortened
from backflip.errors import SettingsError
from backflip.loop.checks import faults
from backflip.loop.recipe_settings import RecipeSettings, take_algorithms
from backflip.records import content_id
from backflip.records.feedback import KINDS

_NAME_LENGTH = 100


class Recipe(RecipeSettings):
    """The settings of a run."""

    @model_validator(mode="before")
    @classmethod
    def _shorthands(cls, data: Any) -> Any:
        """`feedback = "people"` means `feedback.source`, and `algorithm = "dpo"` its type."""
        if not isinstance(data, dict):
            return data
        data = _in_full(data)
        if isinstance(data.get("algorithm"), dict):
            data["algorithm"] = {"type": "ppo", **data["algorithm"]}
        return _reward_on_policy(data)

    @field_validator("feedback")
    @classmethod
    def _kinds_are_known(cls, feedback: FeedbackSettings) -> FeedbackSettings:
        """Settings know no kinds; here all are loaded that the recipe may name."""
        *most, last = map(repr, KINDS)
        known = {"expected": f"{', '.join(most)} or {last}"}
        found = [
            InitErrorDetails(type="literal_error", loc=("kinds", i), input=kind, ctx=known)
            for i, kind in enumerate(feedback.kinds)
            if kind not in KINDS
        ]
        if found:
            raise ValidationError.from_exception_data("FeedbackSettings", found)
        return feedback

    @model_validator(mode="after")
    def _check(self) -> Self:
        if found := faults(self):
            raise ValueError("; ".join(found))
        return self

    @property
    def run_id(self) -> str:
        """The run that this recipe begins; see `loop.known.run_of` for one that it goes on with."""
        return content_id("run", named_by(self))


def shipped_recipes() -> dict[str, Path]:
    """Recipes that come with the package, by name."""
    folder = Path(str(resources.files("backflip.loop") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by its path or the name of a shipped one, and lay overrides over it.

    A recipe may start from another: `base = "demo"` at its top, by name or path beside it. The
    `extensions` that it names are imported before it is validated.

    Raises:
        SettingsError: no such recipe, not TOML, an unknown key, a value out of range, an extension
            that cannot be imported.
    """
    path = _find(source, Path())
    laid_over = [_spelled_out(override) for override in overrides]
    data = apply_overrides(_read(path, seen=()), laid_over)
    load_extensions(_texts(data.get("extensions")))
    take_algorithms(RecipeSettings, Recipe)
    return Recipe.parse(data, where=shortened(str(source), 300), line_of=lines_of(path, laid_over))


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise SettingsError("recipes start from each other in a circle", where=str(path))
    data = _in_full(read_toml(path))
    if given := _texts(data.get("extensions")):
        data["extensions"] = [beside(each, path.parent) for each in given]
    base = data.pop("base", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise SettingsError("base is not the name or the path of a recipe", where=str(path))
    return merge(_read(_find(base, path.parent), (*seen, path.resolve())), data)


def _texts(value: Any) -> list[str]:
    """A list of texts that nobody has checked yet; empty where it is something else."""
    texts = isinstance(value, list) and all(isinstance(each, str) for each in value)
    return list(value) if texts else []


def _in_full(data: dict[str, Any]) -> dict[str, Any]:
    """A recipe's data with its shorthands spelled out, so that a base's other keys stay."""
    data = dict(data)
    for key, stands_for in (("feedback", "source"), ("algorithm", "type")):
        if isinstance(data.get(key), str):
            data[key] = {stands_for: data[key]}
    return data


def _reward_on_policy(data: dict[str, Any]) -> dict[str, Any]:
    """A recipe's data in which a reward model without a name starts from the policy's model.

    It then reads dialogues as the policy does, unless it is told otherwise.
    """
    model, reward = data.get("model"), data.get("reward", {})
    inner = reward.get("model", {}) if isinstance(reward, dict) else None
    if not isinstance(inner, dict):
        return data
    read = model.get if isinstance(model, dict) else lambda key: getattr(model, key, None)
    given = {key: value for key in ("name", "chat") if (value := read(key)) is not None}
    if inner.get("name", given.get("name")) != given.get("name"):
        return data
    return {**data, "reward": {**reward, "model": {**given, **inner}}}


def _find(source: str | Path, beside: Path) -> Path:
    shipped = shipped_recipes()
    if str(source) in shipped:
        return shipped[str(source)]
    path = beside / source
    if not _is_file(path):
        near = difflib.get_close_matches(path.stem[:_NAME_LENGTH], shipped, n=1, cutoff=0.6)
        advice = f"; did you mean {near[0]!r}, which comes with Backflip?" if near else ""
        raise SettingsError(
            f"no recipe {shortened(str(source))!r}{advice}",
            hint=f"Give a TOML file, or one of: {', '.join(shipped)}.",
        )
    return path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        where = shortened(str(path), 300)
        raise SettingsError(f"cannot be read: {error.strerror}", where=where) from None


def _spelled_out(override: str) -> str:
    """`feedback=people` means its source, whatever the recipe says beside it; `algorithm=dpo`
    means that algorithm with its own defaults, since another one's settings do not apply.
    """
    key, sign, value = (part.strip() for part in override.partition("="))
    if key == "feedback":
        return f"feedback.source{sign}{value}"
    if key == "algorithm":
        return f'algorithm{sign}{{type = "{value.strip(chr(34))}"}}'
    return override
