"""Writes docs/reference/: every setting and every command, from the program itself.

python tools/reference.py          # write them
python tools/reference.py --check  # say which are stale, and exit with 1 then
"""

import argparse
import inspect
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import typer
from pydantic import AfterValidator, BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from backflip.algorithms import ALGORITHMS
from backflip.cli.app import app
from backflip.config import OidcSettings, ServerSettings
from backflip.config.bounds import DEEPEST, LONGEST, MOST, Within
from backflip.loop import Recipe

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
HEADING = "<!-- Written by tools/reference.py; change the program, not this file. -->"
PLAIN = {str: "string", int: "integer", float: "float", bool: "boolean", Path: "path"}
LOW, HIGH = "1 low", "2 high"
LIMITS = {
    annotated_types.Ge: (LOW, "ge", "at least {}"),
    annotated_types.Gt: (LOW, "gt", "above {}"),
    annotated_types.Le: (HIGH, "le", "at most {}"),
    annotated_types.Lt: (HIGH, "lt", "below {}"),
    annotated_types.MinLen: (LOW, "min_length", "{} or more of them"),
}


def main() -> int:
    """Write the pages, or say which are stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for name, text in pages().items():
        path = FOLDER / name
        if check:
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                stale.append(str(path))
        else:
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for path in stale:
        print(f"{path} is stale: run python tools/reference.py", file=sys.stderr)  # noqa: T201
    return 1 if stale else 0


def pages() -> dict[str, str]:
    """Both pages by file name."""
    return {"settings.md": settings_page(), "commands.md": commands_page()}


def settings_page() -> str:
    """One table a section of a recipe, and one an algorithm."""
    parts = [
        "# Settings",
        HEADING,
        "A recipe is a TOML file with these sections and keys; `key.path=value` on the command "
        "line is laid over it. A key that is not here is refused, with the nearest one that is. "
        "`backflip config show RECIPE` prints a recipe with every setting that it resolves to. "
        "Paths are taken from the folder that the command runs in.",
        f"A number is finite and at most {MOST} in size where nothing else is said, a text has at "
        f"most {LONGEST} characters, and tables and lists are at most {DEEPEST} deep.",
        *_sections("", Recipe()),
    ]
    for name, algorithm in sorted(ALGORITHMS.items()):
        settings = algorithm.settings_type()
        parts.append(f"## algorithm, type = {json.dumps(name)}")
        parts.append(f"See [the algorithm's page](../algorithms/{name}.md).")
        parts.append(_table(settings))
        parts += _inner_sections("algorithm", settings, f", type = {json.dumps(name)}")
    parts += [
        "## The labelling server",
        "Not of a recipe: given to `backflip serve` as `key=value`, or in a file by `--settings`.",
        _table(ServerSettings()),
        "## The labelling server: oidc",
        inspect.cleandoc(OidcSettings.__doc__ or ""),
        _table(OidcSettings.model_construct()),
    ]
    return "\n\n".join(parts) + "\n"


def _sections(path: str, settings: BaseModel, suffix: str = "") -> Iterator[str]:
    yield f"## {path}{suffix}" if path else "## The recipe itself"
    yield inspect.cleandoc(type(settings).__doc__ or "").split("\n\n")[0]
    yield _table(settings)
    yield from _inner_sections(path, settings, suffix)


def _inner_sections(path: str, settings: BaseModel, suffix: str = "") -> Iterator[str]:
    """The sections in a section, with the defaults that they have there."""
    for name, field in type(settings).model_fields.items():
        inner = _inner(field.annotation)
        if inner is None or (name == "algorithm" and not path):
            continue
        value = getattr(settings, name)
        default = value if isinstance(value, BaseModel) else inner()
        yield from _sections(f"{path}.{name}".lstrip("."), default, suffix)


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The class of settings in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [_inner(part) for part in get_args(annotation)]
    return next((part for part in found if part is not None), None)


def _table(settings: BaseModel) -> str:
    rows = [
        [
            f"`{name}`",
            _kind(field),
            _default(getattr(settings, name, PydanticUndefined)),
            _meaning(name, field),
        ]
        for name, field in type(settings).model_fields.items()
    ]
    return _markdown(["key", "type", "default", "meaning"], rows)


def _meaning(name: str, field: FieldInfo) -> str:
    if field.description:
        return field.description
    if name == "type":
        return "tells which algorithm"
    return "see below" if _inner(field.annotation) else ""


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [heads, ["---"] * len(heads), *escaped]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _kind(field: FieldInfo) -> str:
    limits = {**_limits_of_type(field), **_own_limits(field)}
    return ", ".join([_type(field.annotation), *(limits[side] for side in sorted(limits))])


def _own_limits(field: FieldInfo) -> dict[str, str]:
    """The limits that a field has beside its type, by which end they are of."""
    return {
        end: text.format(_number(getattr(limit, attribute)))
        for limit in field.metadata
        for of, (end, attribute, text) in LIMITS.items()
        if isinstance(limit, of)
    }


def _limits_of_type(field: FieldInfo) -> dict[str, str]:
    """Those that it has of its type, but for what all numbers have."""
    found: dict[str, str] = {}
    parts = [part for inner in get_args(field.annotation) for part in get_args(inner)]
    for limit in (*field.metadata, *parts):
        if isinstance(limit, AfterValidator) and isinstance(limit.func, Within):
            within = limit.func
            if within.low > -MOST:
                found[LOW] = f"{'above' if within.above else 'at least'} {within.low}"
            if within.high < MOST:
                found[HIGH] = f"at most {within.high}"
    return found


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _type(annotation: Any) -> str:
    """A type as a writer of TOML knows it."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    if origin in (Union, types.UnionType):
        named = list(dict.fromkeys(_type(part) for part in inner if part is not type(None)))
        return " or ".join([*named, *(["none"] if type(None) in inner else [])])
    if origin is Annotated:
        return _type(inner[0])
    if origin is Literal:
        return " or ".join(f"`{json.dumps(part)}`" for part in inner)
    if origin is tuple and len(inner) == 2 and inner[1] is Ellipsis:
        return f"list of {_type(inner[0])}".replace("list of section", "list of sections")
    if origin is tuple:
        return f"list of {len(inner)}: {_type(inner[0])}"
    if origin is list:
        return f"list of {_type(inner[0])}"
    if origin is dict:
        return f"section of any {_type(inner[0])} = {_type(inner[1])}"
    return PLAIN.get(annotation, str(annotation))


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        return "as below"
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        return "a crowd: " + ", ".join(f"{each.count} {each.name}" for each in value)
    return f"`{json.dumps(value)}`"


def commands_page() -> str:
    """Every command with its arguments and options."""
    group = typer.main.get_command(app)
    parts = [
        "# Commands",
        HEADING,
        "A command ends with status 0; with 1 after an error, which it tells in words; with 2 when "
        "it cannot be read; with 130 after Ctrl-C; see [When a command fails](../faults.md) for "
        "others. With `--json`, standard output is one JSON "
        'document, on an error `{"error": {"what", "where", "hint"}}`; what is under way is '
        "told on standard error. `--debug` shows the traceback of an unexpected error.",
        *_commands(group, "backflip"),
    ]
    return "\n\n".join(parts) + "\n"


def _commands(command: Any, name: str) -> Iterator[str]:
    children = getattr(command, "commands", None)
    if children:
        for child_name, child in children.items():
            yield from _commands(child, f"{name} {child_name}")
        return
    yield f"## {name}"
    yield inspect.cleandoc(command.help or "")
    rows = [_parameter(parameter) for parameter in command.params if parameter.name != "help"]
    if rows:
        yield _markdown(["", "type", "default", "meaning"], rows)


def _parameter(parameter: Any) -> list[str]:
    names = ", ".join(f"`{option}`" for option in parameter.opts)
    if parameter.param_type_name == "argument":
        names = f"`{parameter.metavar or parameter.name.upper()}`"
    kind = _type(parameter.type_descriptor.annotation)
    if parameter.param_type_name == "option" and parameter.metavar:
        kind = f"`{parameter.metavar}`"
    if parameter.required:
        default = "required"
    elif kind == "boolean" or parameter.default is None:
        default = "none" if kind != "boolean" else ""
    else:
        default = f"`{parameter.default}`"
    text = parameter.help or ""
    if parameter.envvar:
        text += f" Or by the environment variable `{parameter.envvar}`."
    return [names, "flag" if kind == "boolean" else kind, default, text]


if __name__ == "__main__":
    sys.exit(main())
