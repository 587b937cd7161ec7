"""Chats in which each turn has two live replies: what people do with them is feedback.

The page asks, a worker replies, and the person says which of the two is better or just goes on
with one. Nobody who chats is told which model it is.
"""

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal, Self

from fastapi import Request
from fastapi.responses import Response
from pydantic import Field, model_validator
from sse_starlette.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from backflip.errors import ConflictError, NotFoundError
from backflip.records import Dialogue, Message, Prompt, Record
from backflip.records.feedback import Comparison, FeedbackBase, Implicit
from backflip.web.access import Annotator, Visitor
from backflip.web.following import follow
from backflip.web.guard import Router
from backflip.web.lead import scripted
from backflip.web.views import text_view, wellformed
from backflip.workspace import Chat, Generation, Project, Workspace

router = Router(tags=["chat"])
Place = Annotated[int, Field(ge=0, le=1, strict=True)]
Turn = Annotated[int, Field(ge=0, le=1000, strict=True)]


class SoFar(Record):
    """How far the page knows the chat to be: whatever comes of another state is refused.

    `turns` is their number, `attempt` that of the last one.
    """

    turns: Turn
    attempt: int = Field(default=0, ge=0, le=2**31, strict=True)


class Said(SoFar):
    """What a person says."""

    text: str = Field(min_length=1, max_length=20_000, pattern=r"\S")


class Chosen(SoFar):
    """What a person says of the two replies of the last turn, and with which one it goes on.

    Without a `choice` it only goes on with the reply at place `go_on`, which counts as kept. With
    a better one the chat goes on with that; of two that are equally good, with `go_on` or either.
    """

    choice: Literal["a", "b", "tie"] | None = None
    strength: int = Field(default=0, ge=0, le=3, strict=True)
    go_on: Place | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.choice is None and self.go_on is None:
            raise ValueError("chooses nothing")
        if self.choice in ("a", "b") and self.go_on not in (None, "ab".index(self.choice)):
            raise ValueError("goes on with the worse reply")
        if self.choice not in ("a", "b") and self.strength:
            raise ValueError("has a strength and prefers neither")
        return self


class Again(SoFar):
    """Asks for two other replies to the last turn; `both_bad` says that these are bad."""

    both_bad: bool = Field(default=False, strict=True)


class Copied(Record):
    """Which reply of which turn was copied."""

    turn: Turn
    place: Place


@router.get("/projects/{project}/chat", include_in_schema=False)
def chat_page(request: Request, project: str, visitor: Annotator) -> Response:
    """The page; it goes on with the person's last chat where that is open."""
    workspace = visitor.context.workspace
    known = workspace.projects.get(project)
    mine = workspace.chats.of(project, visitor.user.id)
    last = mine[0].id if mine and mine[0].state == "open" else None
    return scripted(
        request,
        "chat.html",
        visitor,
        project=known,
        last=last,
        alive=workspace.generations.worker_alive(),
    )


@router.post("/api/projects/{project}/chats", status_code=201)
def start_chat(project: str, visitor: Annotator) -> dict[str, Any]:
    """Begin a chat with the project's model."""
    workspace = visitor.context.workspace
    model = _rules(workspace, project).settings.chat_model
    if model is None:
        raise ConflictError("there is no chat in this project")
    return _view(workspace, workspace.chats.start(project, visitor.user.id, model))


@router.get("/api/projects/{project}/chats/{chat}")
def get_chat(project: str, chat: str, visitor: Annotator) -> dict[str, Any]:
    """A chat of the user's as it is."""
    return _view(visitor.context.workspace, _mine(visitor, project, chat))


@router.get("/api/projects/{project}/chats/{chat}/events", response_class=EventSourceResponse)
async def follow_chat(project: str, chat: str, visitor: Annotator) -> EventSourceResponse:
    """Server-sent events: the replies of the last turn as they grow, until both have ended."""
    known = await run_in_threadpool(_mine, visitor, project, chat)
    replies = known.turns[-1].replies if known.turns else ()
    return follow(visitor.context.workspace.generations, replies, _reply)


@router.post("/api/projects/{project}/chats/{chat}/say")
def say(project: str, chat: str, said: Said, visitor: Annotator) -> dict[str, Any]:
    """Say something; two replies are written to it."""
    workspace = visitor.context.workspace
    known = _as_told(visitor, project, chat, said)
    if known.turns and known.turns[-1].chosen is None:
        raise ConflictError("the chat waits for a choice", hint="Choose a reply first.")
    replies = _ask(visitor, project, known, said.text)
    with _wanted(workspace, replies):
        return _view(workspace, workspace.chats.say(known, said.text, replies))


@router.post("/api/projects/{project}/chats/{chat}/choose")
def choose(project: str, chat: str, chosen: Chosen, visitor: Annotator) -> dict[str, Any]:
    """Say which reply is better, or just go on with one; what that says is kept as feedback."""
    workspace = visitor.context.workspace
    known = _as_told(visitor, project, chat, chosen)
    pair = _replies(workspace, known, len(known.turns) - 1)
    place = chosen.go_on
    if chosen.choice in ("a", "b"):
        place = "ab".index(chosen.choice)
    elif place is None:
        place = secrets.randbelow(2)
    if pair[place].sample_id is None:
        raise ConflictError("this reply is not done")
    said = _about(visitor, known, pair, chosen, place)
    after = workspace.chats.choose(known, place, said)
    _cancel(workspace, known.turns[-1].replies)  # one that is still being written
    return _view(workspace, after)


@router.post("/api/projects/{project}/chats/{chat}/again")
def ask_again(project: str, chat: str, again: Again, visitor: Annotator) -> dict[str, Any]:
    """Have two other replies written to the last turn; that speaks against those that were done."""
    workspace = visitor.context.workspace
    known = _as_told(visitor, project, chat, again)
    if not known.turns or known.turns[-1].chosen is not None:
        raise ConflictError("no reply waits for a choice")
    pair = _replies(workspace, known, len(known.turns) - 1)
    done = [each.sample_id for each in pair if each.sample_id is not None]
    fields = _fields(visitor, known, len(known.turns) - 1)
    said: list[FeedbackBase]
    if len(done) == 2 and pair[0].text == pair[1].text:
        said = []  # as when one of them is chosen
    elif again.both_bad and len(done) == 2:
        said = [Comparison(samples=(done[0], done[1]), choice="both_bad", shown=(0, 1), **fields)]
    else:
        said = [Implicit(sample=name, signal="regenerated", **fields) for name in done]
    replies = _ask(visitor, project, known, known.turns[-1].text, again=True)
    with _wanted(workspace, replies):
        shown = _view(workspace, workspace.chats.again(known, replies, said))
    _cancel(workspace, known.turns[-1].replies)
    return shown


@router.post("/api/projects/{project}/chats/{chat}/copied")
def note_copy(project: str, chat: str, copied: Copied, visitor: Annotator) -> dict[str, bool]:
    """Note that a reply was copied: a sign that it is of use."""
    workspace = visitor.context.workspace
    known = _mine(visitor, project, chat)
    _rules(workspace, project)
    reply = _replies(workspace, known, copied.turn)[copied.place]
    if reply.sample_id is None:
        raise ConflictError("this reply is not done")
    copied_it = Implicit(
        annotator=visitor.user.annotator,
        sample=reply.sample_id,
        signal="copied",
        key=f"{chat}/{reply.id}",
    )
    workspace.chats.note(known, copied_it)
    return {"saved": True}


@router.post("/api/projects/{project}/chats/{chat}/undo")
def undo_choice(project: str, chat: str, so_far: SoFar, visitor: Annotator) -> dict[str, Any]:
    """Take the last choice back, as long as nothing was said since."""
    workspace = visitor.context.workspace
    known = _as_told(visitor, project, chat, so_far)
    return _view(workspace, workspace.chats.undo(known, visitor.user.annotator))


@router.post("/api/projects/{project}/chats/{chat}/end")
def end_chat(project: str, chat: str, visitor: Annotator) -> dict[str, Any]:
    """End a chat; replies that are still being written are stopped."""
    workspace = visitor.context.workspace
    known = _mine(visitor, project, chat)
    ended = workspace.chats.end(known)
    _cancel(workspace, known.turns[-1].replies if known.turns else ())
    return _view(workspace, ended)


def _rules(workspace: Workspace, project: str) -> Project:
    known = workspace.projects.get(project)
    if known.archived:
        raise ConflictError("the project is archived")
    return known


def _mine(visitor: Visitor, project: str, name: str) -> Chat:
    """A chat of the user's in the project; a `NotFoundError` for anybody else's."""
    chat = visitor.context.workspace.chats.get(name)
    if chat.user != visitor.user.id or chat.project != project:
        raise NotFoundError(f"no chat {name!r} of yours")
    return chat


def _as_told(visitor: Visitor, project: str, name: str, so_far: SoFar) -> Chat:
    """The same, where it is as the page knows it and the project still has that model."""
    chat = _mine(visitor, project, name)
    if _rules(visitor.context.workspace, project).settings.chat_model != chat.model:
        raise ConflictError("the project chats with this model no more", hint="Begin another chat.")
    attempt = chat.turns[-1].attempt if chat.turns else 0
    if (len(chat.turns), attempt) != (so_far.turns, so_far.attempt):
        raise ConflictError("the chat has gone on meanwhile", hint="Load the page again.")
    return chat


def _replies(workspace: Workspace, chat: Chat, turn: int) -> list[Generation]:
    if not 0 <= turn < len(chat.turns):
        raise NotFoundError(f"there is no turn {turn}")
    return list(workspace.generations.get_many(chat.turns[turn].replies).values())


def _ask(
    visitor: Visitor, project: str, chat: Chat, text: str, *, again: bool = False
) -> tuple[str, str]:
    """Ask for two replies to what was said, after the dialogue so far."""
    workspace = visitor.context.workspace
    rules = _rules(workspace, project).settings
    before = chat.turns[:-1] if again else chat.turns
    messages = [*_messages(workspace, chat, len(before)), Message(role="user", content=text)]
    settings = {
        "temperature": rules.chat_temperature,
        "top_p": rules.chat_top_p,
        "max_tokens": rules.chat_max_tokens,
    }
    prompt = Prompt(content=Dialogue(messages=tuple(messages)), source="chat")
    seed = secrets.randbelow(2**53)
    first, second = (
        workspace.generations.ask(
            visitor.user.id,
            "chat",
            chat.model,
            prompt,
            settings,
            seed=seed,
            index=place,
            project=project,
        )
        for place in range(2)
    )
    return first, second


def _messages(workspace: Workspace, chat: Chat, turns: int) -> Iterator[Message]:
    """The dialogue of the first turns, with the replies that it went on with."""
    chosen = [turn.replies[turn.chosen or 0] for turn in chat.turns[:turns]]
    texts = workspace.generations.get_many(chosen)
    for turn, name in zip(chat.turns, chosen, strict=False):
        yield Message(role="user", content=turn.text)
        yield Message(role="assistant", content=texts[name].text)


@contextmanager
def _wanted(workspace: Workspace, replies: tuple[str, str]) -> Iterator[None]:
    """Cancels replies where the block fails, so that nobody writes what nobody will see."""
    try:
        yield
    except BaseException:
        _cancel(workspace, replies)
        raise


def _cancel(workspace: Workspace, replies: Iterable[str]) -> None:
    for name in replies:
        workspace.generations.cancel(name)


def _fields(visitor: Visitor, chat: Chat, turn: int) -> dict[str, Any]:
    key = f"{chat.id}/{turn}/{chat.turns[turn].attempt}"
    return {"annotator": visitor.user.annotator, "key": key}


def _about(
    visitor: Visitor, chat: Chat, pair: list[Generation], chosen: Chosen, place: int
) -> list[FeedbackBase]:
    """What a choice says. Of two that are the same, nothing can be said."""
    first, second = (each.sample_id for each in pair)
    fields = _fields(visitor, chat, len(chat.turns) - 1)
    if chosen.choice is not None and (first is None or second is None):
        raise ConflictError("there is only one reply", hint="Go on with it, or ask for others.")
    if first is None or second is None:
        return [Implicit(sample=str(first or second), signal="kept", **fields)]
    if pair[0].text == pair[1].text:
        return []
    if chosen.choice is not None:
        said = {"choice": chosen.choice, "strength": chosen.strength, "shown": (0, 1)}
        return [Comparison(samples=(first, second), **said, **fields)]
    kept, other = (first, second)[:: 1 if place == 0 else -1]
    return [Implicit(sample=kept, signal="kept", over=other, shown=(place, 1 - place), **fields)]


def _view(workspace: Workspace, chat: Chat) -> dict[str, Any]:
    """A chat as its page shows it: no model, no id of a sample."""
    replies = workspace.generations.get_many(name for turn in chat.turns for name in turn.replies)
    return {
        "id": chat.id,
        "state": chat.state,
        "turns": [
            {
                "said": text_view(turn.text),
                "attempt": turn.attempt,
                "chosen": turn.chosen,
                "replies": [_reply(replies[name]) for name in turn.replies],
            }
            for turn in chat.turns
        ],
        "worker": workspace.generations.worker_alive(),
    }


def _reply(generation: Generation) -> dict[str, Any]:
    return {
        **text_view(generation.text),
        "text": wellformed(generation.text),
        "state": generation.state,
        "done": generation.sample_id is not None,
        "truncated": bool(generation.truncated),
        "error": generation.error,
    }
