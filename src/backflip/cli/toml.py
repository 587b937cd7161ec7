"""Settings as TOML text, which reads back as the same settings."""

import json
import re
from collections.abc import Mapping
from typing import Any

NONE = "none"  # config.base reads it; written out, since that takes a while to import
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(data: Mapping[str, Any]) -> str:
    """Nested settings as a TOML document; None, for which TOML has no word, is "none".

    Args:
        data: texts, numbers, truth values, None, lists and tables of these. A list holds either
            tables or none.
    """
    return "\n".join(_table(data, ())) + "\n"


def _table(data: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    """The lines of a table: its own values first, since those after a heading would be that's."""
    lines: list[str] = []
    below: list[str] = []
    for key, value in data.items():
        place = (*path, _key(key))
        if isinstance(value, Mapping) and value:
            below += ["", f"[{'.'.join(place)}]", *_table(value, place)]
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            for item in value:
                below += ["", f"[[{'.'.join(place)}]]", *_table(item, place)]
        elif value is None:
            lines.append(f'{_key(key)} = "{NONE}"')
        else:
            lines.append(f"{_key(key)} = {_value(value)}")
    return lines + below


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):  # an empty one: the others stand under a heading
        return "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    # JSON writes texts and numbers as TOML does, but for one control character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
