"""Settings as TOML text, which reads back as the same settings."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from backflip.plain_text import clean_text

NONE = "none"  # config.base reads it; written out, since that takes a while to import
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(data: Mapping[str, Any]) -> str:
    """Nested settings as a TOML document; None, for which TOML has no word, is "none".

    Args:
        data: texts, numbers, truth values, None, lists and tables of these.

    Returns:
        text that a terminal shows as it stands, so that it reads back when it is copied from there.
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
        elif isinstance(value, list | tuple) and value and _are_tables(value):
            for item in value:
                below += ["", f"[[{'.'.join(place)}]]", *_table(item, place)]
        else:
            lines.append(f"{_key(key)} = {_value(value)}")
    return lines + below


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _value(key)


def _are_tables(values: Sequence[Any]) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def _value(value: Any) -> str:
    if value is None:
        return f'"{NONE}"'
    if isinstance(value, Mapping):  # an empty one, or inside a list: others have a heading
        return f"{{{', '.join(f'{_key(key)} = {_value(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    # JSON writes texts and numbers as TOML does, but for what a terminal may not be shown.
    text = json.dumps(value, ensure_ascii=False)
    return text if clean_text(text) == text else "".join(map(_escaped, text))


def _escaped(sign: str) -> str:
    if " " <= sign <= "~":
        return sign
    return f"\\u{ord(sign):04x}" if ord(sign) < 0x10000 else f"\\U{ord(sign):08x}"
