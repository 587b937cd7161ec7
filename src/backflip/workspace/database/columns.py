"""What columns of the tables hold, and how it is kept on either database.

Text that people or models wrote is kept inside JSON, and JSON is escaped to ASCII: both databases
hold all of it. What is written into a `Kept` column has passed the checks of `records.door`; what
stands in one is read as it is.
"""

import json
import math
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

from backflip.errors import DamageError
from backflip.records.door import KEPT_DEPTH, MAX_BYTES, check_json, whole_text
from backflip.records.feedback import DAMAGED

DOCTOR = "backflip doctor WORKSPACE says what is lost, and what a backup would bring back."

Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


REPLACED = "\ufffd"
"""In place of bytes that are no text. JSON is written as ASCII, so it stands in none as it is."""


class Json(TypeDecorator[Any]):
    """Any JSON value as ASCII text with sorted keys; NaN and infinities as Python writes them."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        return None if value is None else canonical(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        if value is None:
            return None
        try:
            if REPLACED in value:
                raise ValueError("it holds bytes that are no text")
            return json.loads(value)
        except (ValueError, TypeError, RecursionError) as error:
            return self._unreadable(error)

    def _unreadable(self, error: Exception) -> Any:
        raise _damaged("a value that is no JSON") from error


class Damaged:
    """Comes back in place of a value that cannot be read: somebody changed it from outside.

    It is no value of any type, so that nothing is made of it by mistake.
    """


class Shown(Json):
    """JSON for pages, which show what they can: what cannot be read is `Damaged`."""

    cache_ok = True

    def _unreadable(self, error: Exception) -> Damaged:
        return Damaged()


def as_text(value: Any) -> str:
    """A text for a page, or a word that says that it cannot be read."""
    return whole_text(value) if isinstance(value, str) else DAMAGED


def as_object(value: Any) -> dict[str, Any]:
    """An object as it was stored; an empty one where it cannot be read."""
    return value if isinstance(value, dict) else {}


class UnfitError(ValueError):
    """A value that a column does not keep."""


class Kept(Shown):
    """JSON of what people, models and files say: whole texts, numbers in range, bounded depth.

    Args:
        what: stands there, for who has it refused.
        max_bytes: of its texts together; None for no limit.
    """

    cache_ok = True

    def __init__(self, what: str, max_bytes: int | None = MAX_BYTES):
        super().__init__()
        self.what = what
        self.max_bytes = max_bytes

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        try:
            check_json(value, depth=KEPT_DEPTH, max_bytes=self.max_bytes)
        except ValueError as error:
            raise UnfitError(f"{self.what} cannot be kept: {error}") from None
        return super().process_bind_param(value, dialect)


UNKNOWN = datetime(1, 1, 1, tzinfo=UTC)
"""In place of a moment that cannot be read: pages show moments, and counts by the hour use them."""


class Moment(TypeDecorator[datetime]):
    """A point in time as ISO 8601 text in UTC, which sorts as it should."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        try:
            return datetime.fromisoformat(value)
        except (ValueError, TypeError):
            return UNKNOWN


class Real(TypeDecorator[float]):
    """A float whose NaN is stored as NULL: SQLite has no NaN, and a diverged loss is no gap."""

    impl = sa.Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: sa.Dialect) -> float | None:
        return None if value is None or math.isnan(value) else float(value)

    def process_result_value(self, value: float | None, dialect: sa.Dialect) -> float:
        return math.nan if value is None else value


def _damaged(what: str) -> DamageError:
    return DamageError(f"the database is damaged: it holds {what}", hint=DOCTOR)


def canonical(value: Any) -> str:
    """JSON with one spelling for one value, so that equal values have equal hashes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def numbered(name: str, *parts: Any) -> sa.Table:
    """A table whose rows keep the order they came in."""
    number = sa.Column("number", Number, primary_key=True, autoincrement=True)
    return sa.Table(name, metadata, number, *parts, sqlite_autoincrement=True)


def text(name: str, *parts: Any, nullable: bool = False, **kw: Any) -> sa.Column[str]:
    return sa.Column(name, sa.Text, *parts, nullable=nullable, **kw)


def created() -> sa.Column[datetime]:
    return sa.Column("created", Moment, nullable=False)
