"""Documentation that cannot lag behind the program."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from backflip.algorithms import ALGORITHMS
from backflip.loop import Recipe

ROOT = Path(__file__).parents[1]
REFERENCE = runpy.run_path(str(ROOT / "tools" / "reference.py"))


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in models_in(part)]


def all_settings() -> list[type[BaseModel]]:
    """Every class of settings that a recipe can hold."""
    found: list[type[BaseModel]] = []
    waiting: list[type[BaseModel]] = [Recipe, *(a.settings_type for a in ALGORITHMS.values())]
    while waiting:
        model = waiting.pop()
        if model not in found:
            found.append(model)
            for field in model.model_fields.values():
                waiting += models_in(field.annotation)
    return found


@pytest.mark.parametrize("name", ["settings.md", "commands.md"])
def test_the_reference_is_what_the_program_says(name):
    page = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert page == REFERENCE["pages"]()[name], "run: python tools/reference.py"


@pytest.mark.parametrize("model", all_settings(), ids=lambda m: m.__name__)
def test_every_setting_is_described(model):
    silent = [
        name
        for name, field in model.model_fields.items()
        if not field.description and name not in ("type", "optimizer")
    ]
    assert not silent


def test_every_command_and_option_has_help():
    page = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    assert page.count("\n## backflip ") == 19
    assert not re.findall(r"^\| .* \|  \|$", page, flags=re.MULTILINE)


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_algorithm_has_a_page_that_names_its_settings(name):
    page = (ROOT / "docs" / "algorithms" / f"{name}.md").read_text(encoding="utf-8")
    assert "Departures" in page
    own = set(ALGORITHMS[name].settings_type.model_fields) - {"type", "optimizer"}
    shared = {"epochs", "minibatches", "batch_size", "steps", "ptx_text", "ptx_batch_size"}
    whitened = {"whiten_advantages", "kl_estimator"}
    assert not [key for key in own - shared - whitened if f"`{key}`" not in page]
