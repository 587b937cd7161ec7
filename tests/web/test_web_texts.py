"""Every text of the pages is there in every language, and no language has one that nobody shows."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from jinja2 import Environment, nodes

import backflip.web
from backflip.records.samples import Role
from backflip.web.texts import catalogue, languages, translator
from backflip.workspace import ProjectSettings

WEB = Path(backflip.web.__file__).parent
OTHERS = [language for language in languages() if language != "en"]
HOLE = re.compile(r"\{(\w+)\}")
ANY = {"any"}
LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')


def in_templates() -> Iterator[tuple[str, str, set[str]]]:
    """Where a text stands in a template, the text, and the names that are filled in."""
    for path in sorted((WEB / "templates").glob("*.html")):
        tree = Environment(autoescape=True).parse(path.read_text(encoding="utf-8"))
        for call in tree.find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name == "_":
                where = f"{path.name}:{call.lineno}"
                assert isinstance(call.args[0], nodes.Const), f"{where}: not a text"
                yield where, call.args[0].value, {keyword.key for keyword in call.kwargs}


def in_scripts() -> Iterator[tuple[str, str, set[str]]]:
    """The same of the scripts: what `t` and `word` are called with."""
    for path in sorted((WEB / "static").rglob("*.js")):
        script = path.read_text(encoding="utf-8")
        for call in re.finditer(r"(?<![\w.])(t|word)\(", script):
            inner = arguments(script, call.end())
            where = f"{path.name}: {call[1]}({inner})"
            literal = LITERAL.match(inner)
            if literal is None:
                # Of a variable the texts are collected where `word` marks them.
                assert call[1] == "t", where
                assert re.fullmatch(r"[\w.\[\]]+(\(-1\)\.\w+)?|text, values = \{\}", inner), where
            else:
                rest = inner[literal.end() :]
                assert re.fullmatch(r"|, (\{.*\}|\w+)", rest, re.DOTALL), where
                given = set(re.findall(r"(?<![\w.])(\w+)(?=[:,\s}])", rest))
                # What an object holds that comes from elsewhere cannot be seen here.
                yield where, literal[1], given if "{" in rest or not rest else ANY


def arguments(script: str, start: int) -> str:
    """What stands between the parentheses of a call that opens at `start`."""
    depth = 1
    for found in re.finditer(r'"(?:[^"\\]|\\.)*"|[()]', script[start:]):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if depth == 0:
            return script[start : start + found.start()]
    raise AssertionError("a call has no end")


def all_texts() -> set[str]:
    rules = ProjectSettings()
    found = {text for _, text, _ in (*in_templates(), *in_scripts())}
    return found | {*rules.reasons, *rules.marks, "English"}


def test_texts_are_found() -> None:
    assert {text for _, text, _ in in_templates()} >= {"Sign in", "Take part as {name}"}
    assert {text for _, text, _ in in_scripts()} >= {"B much better", "weak", "up to rank {rank}"}
    assert OTHERS == ["de"]


def test_what_is_filled_in_has_its_place() -> None:
    for where, text, given in in_templates():
        assert set(HOLE.findall(text)) == given, where
    for where, text, given in in_scripts():
        assert given is ANY or set(HOLE.findall(text)) <= given, where


@pytest.mark.parametrize("language", OTHERS)
def test_a_language_is_complete(language: str) -> None:
    texts = catalogue(language)
    assert sorted(all_texts() - set(texts)) == [], "without a translation"
    assert sorted(set(texts) - all_texts()) == [], "shown nowhere"
    assert list(texts) == sorted(texts)
    for text, translated in texts.items():
        assert set(HOLE.findall(text)) == set(HOLE.findall(translated)), text
        assert translated.strip() == translated, text
        assert translated, text


def test_a_text_is_filled_in() -> None:
    assert translator("de")("version {number}", number=3) == "Fassung 3"
    assert translator("en")("version {number}", number=3) == "version 3"
    assert translator("de")("no text of ours") == "no text of ours"


def test_every_role_of_a_turn_has_a_name_for_people():
    sheet = (WEB / "static" / "label" / "sheet.js").read_text(encoding="utf-8")
    named = re.search(r"const ROLES = \{(.*)\};", sheet)
    assert named is not None
    assert set(re.findall(r"(\w+): word\(", named[1])) == {*get_args(Role), "situation"}
