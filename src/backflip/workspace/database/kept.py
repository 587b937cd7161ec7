"""What a workspace gives back of what was kept in it: what it lacks is damage, and told as such."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from backflip.errors import DamageError
from backflip.records.plan import StageKind
from backflip.records.results import StageResult
from backflip.workspace.database import columns
from backflip.workspace.database.engine import damage

Value = TypeVar("Value")
R = TypeVar("R", bound=StageResult)


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


def read_result(run: str, key: str, kind: StageKind[R], held: Any) -> R:
    """The result of a stage, from the JSON that the workspace keeps.

    Args:
        run: id of the run.
        key: of the stage.
        kind: which stage it is.
        held: what the database holds.

    Raises:
        DamageError: it lacks a key, or holds a value of another type; the first one is named.
    """
    try:
        return kind.result.model_validate(held)
    except ValidationError as error:
        told = _told(error)
    more = f", and {len(told) - 1} more of that sort" if len(told) > 1 else ""
    what = f"the result of stage {key} of run {run} is damaged: it {told[0]}{more}"
    raise DamageError(what, hint=columns.DOCTOR)


def result_faults(kind: StageKind[Any] | None, held: Any) -> list[str]:
    """What is wrong with the result of a stage, each with its key; nothing, where nothing is.

    Args:
        kind: which stage it is; None where nobody knows.
        held: what the database holds.
    """
    try:
        (kind.result if kind else StageResult).model_validate(held)
    except ValidationError as error:
        return _told(error)
    return []


def _told(error: ValidationError) -> list[str]:
    """Faults in words; where something within a value is at fault, nothing is said of the value."""
    faults: dict[str, bool] = {}
    for each in error.errors(include_url=False, include_input=False):
        lacks = each["type"] in ("missing", "lacking")
        key = each.get("ctx", {}).get("key")  # of a key that lacks where others stand
        place = ".".join(map(str, each["loc"] if key is None else (*each["loc"], key)))
        faults[place] = lacks
    inner = [place for place in faults if not any(p.startswith(f"{place}.") for p in faults)]
    return [_said(place, faults[place]) for place in inner]


def _said(place: str, lacks: bool) -> str:
    if not place:
        return "is no object"
    return f"lacks {place}" if lacks else f"holds in {place} what it cannot"
