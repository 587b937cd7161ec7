"""Texts of the pages in the language of who reads them.

English is written where it is used and is its own key; the other languages are JSON files in
`locales/`, from the English text to theirs. A test holds them complete.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

from starlette.requests import HTTPConnection

LOCALES = Path(__file__).parent / "locales"
ENGLISH = "en"
Translate = Callable[..., str]


@cache
def languages() -> dict[str, str]:
    """Languages by code, each under its own name."""
    names = {ENGLISH: "English"}
    for path in sorted(LOCALES.glob("*.json")):
        names[path.stem] = catalogue(path.stem)["English"]
    return names


@cache
def catalogue(language: str) -> dict[str, str]:
    """The texts of a language by their English ones."""
    if language == ENGLISH:
        return {}
    return json.loads((LOCALES / f"{language}.json").read_text(encoding="utf-8"))


def translator(language: str) -> Translate:
    """A function from an English text to the language; `{name}` in it is filled in by keywords."""
    texts = catalogue(language)

    def translate(text: str, **values: object) -> str:
        return texts.get(text, text).format(**values) if values else texts.get(text, text)

    return translate


def language_of(connection: HTTPConnection, chosen: str | None) -> str:
    """The language to use: the one that the user chose, else the browser's first that is there."""
    if chosen in languages():
        return chosen
    for part in connection.headers.get("accept-language", "").split(",")[:10]:
        code = part.partition(";")[0].strip().partition("-")[0].lower()
        if code in languages():
            return code
    return ENGLISH
