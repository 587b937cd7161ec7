"""Settings as TOML text, which reads back as the same settings."""

from collections.abc import Mapping
from typing import Any

import tomli_w

from backflip.plain_text import clean_text

NONE = "none"  # config.base reads it; written out, since that takes a while to import


def to_toml(data: Mapping[str, Any]) -> str:
    """Nested settings as a TOML document; None, for which TOML has no word, is "none".

    Args:
        data: texts, numbers, truth values, None, lists and tables of these.

    Returns:
        text that a terminal shows as it stands, so that it reads back when it is copied from there.
    """
    # The writer gives each text one line, within which what may not be shown has an escape.
    return "\n".join(map(_shown, tomli_w.dumps(_said(data)).split("\n")))


def _said(value: Any) -> Any:
    if value is None:
        return NONE
    if isinstance(value, Mapping):
        return {key: _said(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_said(item) for item in value]
    return value


def _shown(line: str) -> str:
    return line if clean_text(line) == line else "".join(map(_escaped, line))


def _escaped(sign: str) -> str:
    if " " <= sign <= "~":
        return sign
    return f"\\u{ord(sign):04x}" if ord(sign) < 0x10000 else f"\\U{ord(sign):08x}"
