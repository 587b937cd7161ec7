"""Help, usage and versions: every command and everything that it takes is explained."""

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from cli_desk import backflip, done

from backflip import __version__
from backflip.cli.app import app


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command, groups included, with the words that call it."""
    yield path, command
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        yield from commands(inner, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


def words(text: str) -> str:
    """A text without frames and line breaks."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


def test_the_commands_are_there() -> None:
    names = (
        "run demo report lineage pretrain sft sample label reward policy evaluate models chat "
        "serve worker quality backup restore check doctor"
    )
    assert {" ".join(path) for path in COMMANDS} == {
        "",
        *names.split(),
        "feedback",
        *(f"feedback {name}" for name in ("import", "export", "stats", "revoke")),
        "config",
        "config show",
        "config recipes",
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_explains_everything(path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole: a bracket that is read as markup would be missing from what is shown."""
    monkeypatch.setitem(os.environ, "COLUMNS", "300")
    command = COMMANDS[path]
    shown = words(done(*path, "--help").out)
    assert command.help
    assert words(command.help) in shown
    for parameter in command.params:
        assert parameter.help, f"{parameter.name} is not explained"
        assert words(parameter.help) in shown
        for name in parameter.opts if parameter.param_type_name == "option" else ():
            assert name in shown


def test_version() -> None:
    assert done("--version").out == f"backflip {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["rnu"],
        ["models", "--wrkspace", "x"],
        ["chat", "x", "--temperature", "warm"],
        ["chat", "x", "--max-tokens", "0"],
        ["feedback", "revoke"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_has_status_two(arguments: list[str]) -> None:
    plain, machine = backflip(*arguments), backflip(*arguments, "--json")
    assert plain.code == machine.code == 2
    assert plain.out == ""
    assert "Usage: backflip" in plain.err
    assert machine.json["error"]["what"] in plain.err


def test_no_command_shows_the_commands() -> None:
    outcome = backflip()
    assert outcome.code == 2
    assert "evaluate" in outcome.out + outcome.err
