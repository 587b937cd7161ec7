"""Webhooks: addresses that are told what happens in a project, at least once each.

What is to be told is written down in the transaction in which it happens, so that nothing that is
kept goes untold and nothing that is not kept is told. A server delivers it afterwards; a delivery
that fails is tried again, later each time, until it is given up.
"""

import secrets
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.engine import Connection

from backflip.errors import NotFoundError
from backflip.records import Record
from backflip.records.feedback import DAMAGED
from backflip.workspace.database import columns, schema
from backflip.workspace.database.engine import Database
from backflip.workspace.projects.projects import get_project

Event = Literal["answer", "batch.done"]
EVENTS: tuple[Event, ...] = ("answer", "batch.done")
DELAYS = (10.0, 60.0, 600.0, 3600.0, 6 * 3600.0)
"""Seconds after each failed try until the next; after the last one a delivery is given up."""
_LEASE = 120.0
_STATES = ("waiting", "delivered", "failed")
_hooks, _deliveries = schema.webhooks, schema.deliveries


class Webhook(Record):
    """An address that is told of events of a project; `secret` signs what it is told."""

    id: str
    project: str
    url: str
    secret: str = Field(repr=False)
    events: tuple[Event, ...]
    active: bool
    created: datetime


class Delivery(Record):
    """One thing to tell one address.

    `state` is "waiting", "delivered" or "failed"; `told` what came of the last try. One of which
    nobody can read what is to be told is `damaged`, and failed.
    """

    number: int
    webhook: str
    event: str
    body: dict[str, Any]
    state: str
    attempts: int
    due: float
    told: str | None
    damaged: bool = False


class Webhooks:
    """The webhooks of all projects, and what is to be delivered."""

    def __init__(self, database: Database):
        self._database = database
        self.clock = time.time

    def add(self, project: str, url: str, events: Sequence[Event]) -> Webhook:
        """Tell an address of these events from now on; a `NotFoundError` for no such project."""
        row = {
            "id": f"hook-{secrets.token_hex(10)}",
            "project": project,
            "url": url,
            "secret": secrets.token_urlsafe(32),
            "events": tuple(dict.fromkeys(events)),
            "active": True,
            "created": columns.now(),
        }
        with self._database.write("projects", "webhooks") as connection:
            get_project(connection, project)
            connection.execute(sa.insert(_hooks), row)
        return Webhook(**row)

    def all(self, project: str) -> list[Webhook]:
        """The webhooks of a project that are active, oldest first."""
        with self._database.read() as connection:
            return _active(connection, project)

    def remove(self, project: str, id: str) -> None:  # noqa: A002
        """Tell an address nothing more; a `NotFoundError` when it is none of the project's."""
        this = sa.and_(_hooks.c.project == project, _hooks.c.id == id, _hooks.c.active)
        with self._database.write("webhooks") as connection:
            if not connection.execute(sa.update(_hooks).where(this).values(active=False)).rowcount:
                raise NotFoundError(f"no webhook {id!r} in this project")
            waiting = sa.and_(_deliveries.c.webhook == id, _deliveries.c.state == "waiting")
            gone = sa.update(_deliveries).where(waiting)
            connection.execute(gone.values(state="failed", told="the webhook was removed"))

    def deliveries(self, id: str, limit: int = 50) -> list[Delivery]:  # noqa: A002
        """The last deliveries of a webhook, newest first."""
        query = sa.select(_deliveries).where(_deliveries.c.webhook == id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(_deliveries.c.number.desc()).limit(limit))
            return [_delivery(row) for row in rows]

    def take(self, limit: int = 20) -> list[tuple[Webhook, Delivery]]:
        """Deliveries that are due, each for this caller alone for a while."""
        now = self.clock()
        due = sa.and_(_deliveries.c.state == "waiting", _deliveries.c.due <= now)
        query = sa.select(_deliveries).where(due).order_by(_deliveries.c.due).limit(limit)
        with self._database.read() as connection:
            if connection.execute(query.limit(1)).first() is None:
                return []
        with self._database.write("webhooks") as connection:
            found = [_delivery(row) for row in connection.execute(query)]
            if lost := [each.number for each in found if each.damaged]:
                given_up = sa.update(_deliveries).where(_deliveries.c.number.in_(lost))
                connection.execute(given_up.values(state="failed", told=DAMAGED))
            found = [each for each in found if not each.damaged]
            hooks = {
                row.id: _hook(row)
                for row in connection.execute(
                    sa.select(_hooks).where(_hooks.c.id.in_([each.webhook for each in found]))
                )
            }
            for each in found:
                taken = {"due": now + _LEASE, "attempts": each.attempts + 1}
                this = _deliveries.c.number == each.number
                connection.execute(sa.update(_deliveries).where(this).values(taken))
        return [(hooks[each.webhook], each) for each in found]

    def settle(self, number: int, told: str, *, delivered: bool) -> None:
        """Say what came of a delivery that was taken; a failed one is due again later."""
        this = _deliveries.c.number == number
        with self._database.write("webhooks") as connection:
            row = connection.execute(sa.select(_deliveries).where(this)).one()
            values: dict[str, Any] = {"told": told}
            if delivered:
                values["state"] = "delivered"
            elif row.attempts > len(DELAYS):
                values["state"] = "failed"
            else:
                values["due"] = self.clock() + DELAYS[row.attempts - 1]
            connection.execute(sa.update(_deliveries).where(this).values(values))


def note_event(connection: Connection, project: str, event: Event, body: dict[str, Any]) -> None:
    """Write down what the webhooks of a project are to be told, in the caller's transaction."""
    rows = [
        {
            "webhook": hook.id,
            "event": event,
            "body": {"event": event, "project": project, **body},
            "state": "waiting",
            "attempts": 0,
            "due": time.time(),
            "created": columns.now(),
        }
        for hook in _active(connection, project)
        if event in hook.events
    ]
    if rows:
        connection.execute(sa.insert(_deliveries), rows)


def _active(connection: Connection, project: str) -> list[Webhook]:
    query = sa.select(_hooks).where(_hooks.c.project == project, _hooks.c.active)
    return [_hook(row) for row in connection.execute(query.order_by(_hooks.c.number))]


def _hook(row: sa.Row[Any]) -> Webhook:
    values: dict[str, Any] = {name: getattr(row, name) for name in Webhook.model_fields}
    values["url"] = columns.as_text(values["url"])
    # Nobody's answer waits for a webhook that cannot be read.
    events = values["events"] if isinstance(values["events"], list) else []
    values["events"] = tuple(event for event in events if event in EVENTS)
    return Webhook(**values)


def _delivery(row: sa.Row[Any]) -> Delivery:
    known = row.event in EVENTS and row.state in _STATES and isinstance(row.body, dict)
    values: dict[str, Any] = {
        name: getattr(row, name) for name in Delivery.model_fields if name != "damaged"
    }
    if not known:
        values |= {"state": "failed", "body": {}, "damaged": True}
    if values["told"] is not None:
        values["told"] = columns.as_text(values["told"])
    return Delivery(**values)
