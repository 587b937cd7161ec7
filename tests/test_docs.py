"""Documentation that cannot lag behind the program."""

import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from backflip.algorithms import ALGORITHMS
from backflip.cli.app import app
from backflip.config import JudgeSettings, ServerSettings
from backflip.formats import FORMATS, Labelled, detect
from backflip.formats import read as read_feedback
from backflip.loop import Recipe, load_recipe, shipped_recipes

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REFERENCE = runpy.run_path(str(ROOT / "tools" / "reference.py"))
WRITTEN = [
    ROOT / "README.md",
    *sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "reference"),
]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in models_in(part)]


def all_settings() -> list[type[BaseModel]]:
    """Every class of settings that a recipe, or the server, can be given."""
    found: list[type[BaseModel]] = []
    waiting: list[type[BaseModel]] = [
        Recipe,
        ServerSettings,
        *(a.settings_type for a in ALGORITHMS.values()),
    ]
    while waiting:
        model = waiting.pop()
        if model not in found:
            found.append(model)
            for field in model.model_fields.values():
                waiting += models_in(field.annotation)
    return found


def all_commands(command: Any, name: str = "backflip") -> Iterator[tuple[str, Any]]:
    """Every command that does something, by the words that call it."""
    children = getattr(command, "commands", None)
    if not children:
        yield name, command
    for child, inner in (children or {}).items():
        yield from all_commands(inner, f"{name} {child}")


COMMANDS = dict(all_commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", ["settings.md", "commands.md"])
def test_the_reference_is_what_the_program_says(name: str) -> None:
    assert read(DOCS / "reference" / name) == REFERENCE["pages"]()[name], (
        "run: python tools/reference.py"
    )


@pytest.mark.parametrize("model", all_settings(), ids=lambda m: m.__name__)
def test_every_setting_is_described(model: type[BaseModel]) -> None:
    silent = [
        name
        for name, field in model.model_fields.items()
        if not field.description and name != "type" and not models_in(field.annotation)
    ]
    assert not silent


@pytest.mark.parametrize("model", all_settings(), ids=lambda m: m.__name__)
def test_every_setting_is_in_the_reference(model: type[BaseModel]) -> None:
    page = read(DOCS / "reference" / "settings.md")
    for name, field in model.model_fields.items():
        row = rf"^\| `{name}` \| .* \| {re.escape(field.description or '')}"
        assert re.search(row, page, flags=re.MULTILINE), name


def test_sections_have_the_defaults_that_they_have_there() -> None:
    """The optimisers of two stages share a class, and not their learning rates."""
    page = read(DOCS / "reference" / "settings.md")
    for section in ("pretrain", "sft", "reward"):
        start = page.index(f"\n## {section}.optimizer\n")
        (cell,) = re.findall(r"\| `learning_rate` \| [^|]* \| `(.*?)` \|", page[start:])[:1]
        stage = Recipe.model_fields[section]
        (kind,) = models_in(stage.annotation)
        assert float(cell) == kind().optimizer.learning_rate


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_reference_with_all_that_it_takes(name: str) -> None:
    page = read(DOCS / "reference" / "commands.md")
    section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
    assert COMMANDS[name].help.split("\n")[0] in section
    for parameter in COMMANDS[name].params:
        if parameter.name != "help":
            assert parameter.help, f"{parameter.name} is not explained"
            assert parameter.help in section
            word = parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar
            assert f"`{word or parameter.name.upper()}`" in section


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_algorithm_has_a_page_that_names_its_settings(name: str) -> None:
    page = read(DOCS / "algorithms" / f"{name}.md")
    assert "\n## Departures" in page
    own = set(ALGORITHMS[name].settings_type.model_fields) - {"type", "optimizer"}
    assert not sorted(key for key in own if f"`{key}`" not in page)


def shown_commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line of ours in an indented block, as (page, words)."""
    for path in WRITTEN:
        for line in read(path).splitlines():
            if match := re.match(r" {4,}(?:\.venv/bin/)?backflip (.*)", line):
                yield path.name, shlex.split(match[1], comments=True)


@pytest.mark.parametrize(("page", "words"), list(shown_commands()), ids=str)
def test_commands_in_the_text_can_be_given(page: str, words: list[str]) -> None:
    """Parsed as the program does, not run; settings that they lay over a recipe are checked."""
    command, path = typer.main.get_command(app), ["backflip"]
    while children := getattr(command, "commands", None):
        path.append(words.pop(0))
        command = children[path[-1]]
    with command.make_context(" ".join(path), list(words)) as context:
        given = context.params
    if overrides := given.get("overrides"):
        recipe = given.get("recipe", "demo")
        load_recipe(recipe if recipe in shipped_recipes() else "demo", overrides)


def shown_recipes() -> Iterator[tuple[str, str]]:
    for path in WRITTEN:
        for block in re.findall(r"```toml\n(.*?)```", read(path), flags=re.DOTALL):
            yield path.name, block


@pytest.mark.parametrize(("page", "recipe"), list(shown_recipes()))
def test_recipes_in_the_text_can_be_read(page: str, recipe: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(recipe)
    assert load_recipe(tmp_path / "recipe.toml").name == tomllib.loads(recipe)["name"]


def test_the_text_speaks_of_folders_that_are_there() -> None:
    for row in re.findall(r"^\| (`.*?) \|", read(ROOT / "README.md"), flags=re.MULTILINE):
        for name in re.findall(r"`([\w/]+)`", row):
            assert (ROOT / name).is_dir() or (ROOT / "src/backflip" / name).is_dir(), name
    for path in (ROOT / "src" / "backflip").iterdir():
        if path.is_dir() and path.name != "__pycache__":
            assert re.search(rf"[`/]{path.name}`", read(ROOT / "README.md")), path.name


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", read(path)):
        assert (path.parent / target).exists(), target


def shown_rows() -> Iterator[tuple[str, str]]:
    """Every row of feedback on the page of formats, by the format that it is shown under."""
    for section in read(DOCS / "formats.md").split("\n### ")[1:]:
        for block in re.findall(r"```json\n(.*?)```", section, flags=re.DOTALL):
            for row in block.splitlines():
                yield re.findall(r"`(.*?)`", section)[0], row


@pytest.mark.parametrize(("name", "row"), list(shown_rows()))
def test_rows_in_the_text_are_of_the_format_that_is_named(
    name: str, row: str, tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(row)
    assert detect(file).name == name
    (found,) = read_feedback(file)
    assert isinstance(found, Labelled)


def test_every_format_has_its_row_and_its_section() -> None:
    page = read(DOCS / "formats.md")
    headings = "".join(re.findall(r"^### .*$", page, flags=re.MULTILINE))
    for name in FORMATS:
        assert f"\n| `{name}` |" in page
        assert f"`{name}`" in headings


def test_the_page_of_the_judge_names_its_settings() -> None:
    page = read(DOCS / "judge.md")
    named = set(re.findall(r"`?\b(\w+)\b(?:`| = )", page))
    assert not set(JudgeSettings.model_fields) - named
