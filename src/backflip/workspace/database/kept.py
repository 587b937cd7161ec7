"""What a workspace gives back of what was kept in it: what it lacks is damage, and told as such."""

from collections.abc import Mapping
from typing import Any, TypeVar

from backflip.errors import DamageError
from backflip.workspace.database import columns
from backflip.workspace.database.engine import damage

Value = TypeVar("Value")


class Found(dict[str, Value]):
    """A dictionary whose reader may count on a key: what was kept has it.

    Args:
        values: what is there.
        lacking: says of what is not there what it is, with `{}` in the place of its key.

    Raises:
        DamageError: by `[]`, for a key that is not there; never a `KeyError`.
    """

    def __init__(self, values: Mapping[str, Value], lacking: str):
        super().__init__(values)
        self._lacking = lacking

    def __missing__(self, key: str) -> Value:
        what = self._lacking.replace("{}", str(key))
        raise DamageError(f"{what} is gone: it was there once", hint=columns.DOCTOR)


def as_kept(value: Any, what: str) -> dict[str, Any]:
    """A JSON object that Backflip wrote, and all within it, as `Found`.

    Args:
        value: what the database holds.
        what: it is, for who is told that it is damaged.

    Raises:
        DamageError: it is no object.
    """
    if not isinstance(value, dict):
        raise damage(what)
    return _found(value, f"{{}} of {what}")


def _found(value: Any, lacking: str) -> Any:
    if isinstance(value, dict):
        return Found({key: _found(each, lacking) for key, each in value.items()}, lacking)
    return [_found(each, lacking) for each in value] if isinstance(value, list) else value
