"""Chats in which a person steers: each turn has two live replies, and one of them goes on.

That is how Askell et al. 2021 ("A General Language Assistant as a Laboratory for Alignment") and
Bai et al. 2022 collected comparisons. What the person says of the two, and what it does with them,
are entries of the journal, in a batch of the project's own; they and the chat are written
together. A chat is changed only by whoever knows how far it is, so that a click that comes twice
does nothing the second time.
"""

import secrets
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import Field, ValidationError
from sqlalchemy.engine import Connection

from backflip.errors import ConflictError, NotFoundError
from backflip.records import Record
from backflip.records.feedback import FeedbackBase
from backflip.workspace.database import columns, schema
from backflip.workspace.database.engine import Database
from backflip.workspace.labelling.volunteered_feedback import VolunteeredIn, keep, take_back
from backflip.workspace.projects.projects import get_project, require_role

MOST_TURNS = 100
_LOCKS = ("queue", "annotators", "journal", "generations")
_chats = schema.chats


class Turn(Record):
    """What a person said, and the two replies to it.

    Attributes:
        text: of the person.
        replies: ids of the two generations, in the order in which they are shown.
        attempt: how often other replies were asked for, or the choice taken back.
        chosen: place of the reply that the chat goes on with; None while it is open.
        said: ids of the entries that the choice made.
        at: when it was made, in seconds since 1970.
    """

    text: str
    replies: tuple[str, str]
    attempt: int = 0
    chosen: int | None = Field(default=None, ge=0, le=1)
    said: tuple[str, ...] = ()
    at: float = 0.0


class Chat(Record):
    """A person's chat with a model, oldest turn first. One that has ended stays as it is.

    One that is damaged shows no turns, and has ended.
    """

    id: str
    project: str
    user: str
    model: str
    turns: tuple[Turn, ...]
    state: Literal["open", "ended"]
    created: datetime

    @property
    def place(self) -> VolunteeredIn:
        """Where entries of the project's chats are kept."""
        return VolunteeredIn(project=self.project, run=f"chat-{self.project}", name="Chat")


class Chats:
    """Every chat."""

    def __init__(self, database: Database):
        self._database = database
        self.clock = time.time

    def start(self, project: str, user: str, model: str) -> Chat:
        """Begin a chat; a `WorkspaceError` when there is no such project, user or model."""
        row = {
            "id": f"chat-{secrets.token_hex(10)}",
            "project": project,
            "user": user,
            "model": model,
            "turns": [],
            "state": "open",
            "created": columns.now(),
        }
        with self._database.write("projects", "people", "generations") as connection:
            get_project(connection, project)
            require_role(connection, project, user, "annotator")
            for table, name, what in (
                (schema.users, user, "user"),
                (schema.models, model, "model"),
            ):
                known = sa.select(table.c.id).where(table.c.id == name)
                if connection.execute(known).scalar() is None:
                    raise NotFoundError(f"no {what} {name!r}")
            connection.execute(sa.insert(_chats), row)
            return _get(connection, row["id"])

    def get(self, id: str) -> Chat:  # noqa: A002
        """A chat by id; a `NotFoundError` when there is none."""
        with self._database.read() as connection:
            return _get(connection, id)

    def of(self, project: str, user: str) -> list[Chat]:
        """A person's chats in a project, newest first."""
        mine = _chats.c.project == project, _chats.c.user == user
        query = sa.select(_chats).where(*mine).order_by(_chats.c.number.desc())
        with self._database.read() as connection:
            return [_chat(row) for row in connection.execute(query).mappings()]

    def say(self, chat: Chat, text: str, replies: tuple[str, str]) -> Chat:
        """Add a turn.

        Args:
            chat: as the person knows it; every turn has a chosen reply.
            text: what the person says.
            replies: ids of the generations that answer.

        Raises:
            ConflictError: the chat is another by now, has ended or is full, or a choice is open.
        """
        with self._database.write(*_LOCKS) as connection:
            _require_open(_as_known(connection, chat))
            if chat.turns and chat.turns[-1].chosen is None:
                raise ConflictError("the chat waits for a choice", hint="Choose a reply first.")
            if len(chat.turns) >= MOST_TURNS:
                raise ConflictError(f"a chat has {MOST_TURNS} turns at most", hint="Begin another.")
            return _put(connection, chat, [*chat.turns, Turn(text=text, replies=replies)])

    def again(self, chat: Chat, replies: tuple[str, str], entries: Sequence[FeedbackBase]) -> Chat:
        """Put other replies in place of those that are open, and keep what that says of them.

        Raises:
            ConflictError: the chat is another by now or has ended, or no choice is open.
        """
        with self._database.write(*_LOCKS) as connection:
            _require_open(_as_known(connection, chat))
            last = _open_turn(chat)
            keep(connection, chat.place, entries, self.clock())
            turn = Turn(text=last.text, replies=replies, attempt=last.attempt + 1)
            return _put(connection, chat, [*chat.turns[:-1], turn])

    def choose(self, chat: Chat, place: int, entries: Sequence[FeedbackBase]) -> Chat:
        """Go on with one of the two replies, and keep what that says of them.

        Raises:
            ConflictError: the chat is another by now or has ended, or no choice is open.
        """
        with self._database.write(*_LOCKS) as connection:
            _require_open(_as_known(connection, chat))
            last = _open_turn(chat)
            moment = self.clock()
            keep(connection, chat.place, entries, moment)
            said = tuple(entry.id for entry in entries)
            turn = last.model_copy(update={"chosen": place, "said": said, "at": moment})
            return _put(connection, chat, [*chat.turns[:-1], turn])

    def undo(self, chat: Chat, annotator: str) -> Chat:
        """Take the last choice back, and with it what it said.

        Raises:
            ConflictError: the chat is another by now or has ended, or its last turn has no choice.
        """
        with self._database.write(*_LOCKS) as connection:
            _require_open(_as_known(connection, chat))
            if not chat.turns or chat.turns[-1].chosen is None:
                raise ConflictError("there is no choice to take back")
            last = chat.turns[-1]
            take_back(connection, chat.place, last.said, annotator, "undone", last.at)
            values = {"chosen": None, "said": (), "attempt": last.attempt + 1}
            return _put(connection, chat, [*chat.turns[:-1], last.model_copy(update=values)])

    def note(self, chat: Chat, entry: FeedbackBase) -> None:
        """Keep something that the person did beside the choice; the same again counts once.

        Raises:
            NotFoundError: the chat is gone.
        """
        with self._database.write(*_LOCKS) as connection:
            _get(connection, chat.id)
            keep(connection, chat.place, [entry], self.clock())

    def end(self, chat: Chat) -> Chat:
        """End a chat; one that has ended stays so."""
        with self._database.write(*_LOCKS) as connection:
            _as_known(connection, chat)
            ended = sa.update(_chats).where(_chats.c.id == chat.id).values(state="ended")
            connection.execute(ended)
            return _get(connection, chat.id)


def _as_known(connection: Connection, chat: Chat) -> Chat:
    """The chat as it is, where that is how it is known."""
    found = _get(connection, chat.id)
    if found.turns != chat.turns:
        raise ConflictError("the chat has gone on meanwhile", hint="Load the page again.")
    return found


def _require_open(chat: Chat) -> None:
    if chat.state != "open":
        raise ConflictError("the chat has ended", hint="Begin another one.")


def _open_turn(chat: Chat) -> Turn:
    if not chat.turns or chat.turns[-1].chosen is not None:
        raise ConflictError("no reply waits for a choice")
    return chat.turns[-1]


def _put(connection: Connection, chat: Chat, turns: Sequence[Turn]) -> Chat:
    values: dict[str, Any] = {"turns": [turn.model_dump(mode="json") for turn in turns]}
    connection.execute(sa.update(_chats).where(_chats.c.id == chat.id).values(values))
    return chat.model_copy(update={"turns": tuple(turns)})


def _get(connection: Connection, id: str) -> Chat:  # noqa: A002
    row = connection.execute(sa.select(_chats).where(_chats.c.id == id)).mappings().first()
    if row is None:
        raise NotFoundError(f"no chat {id!r}")
    return _chat(row)


def _chat(row: sa.RowMapping) -> Chat:
    values = {name: row[name] for name in Chat.model_fields}
    try:
        return Chat(**values)
    except ValidationError:  # it cannot be read, and nobody can go on with it
        return Chat(**(values | {"turns": (), "state": "ended"}))
