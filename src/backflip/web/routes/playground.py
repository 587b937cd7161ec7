"""The playground: replies of several models to one prompt, side by side, as they are written.

The web process only asks for replies and shows them; a worker draws them. What somebody says of
two of them is feedback like any other, in a batch of its own.
"""

import secrets
from typing import Annotated, Any, Literal

from fastapi import HTTPException, Query, Request
from fastapi.responses import Response
from pydantic import Field
from sse_starlette.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from backflip.errors import ConflictError, NotFoundError
from backflip.records import Dialogue, Message, Prompt, Record
from backflip.records.feedback import Comparison
from backflip.web.access import Lead
from backflip.web.following import follow
from backflip.web.guard import Router
from backflip.web.lead import lead_page, require_talking, talking_models
from backflip.web.parameters import Word
from backflip.web.rendering import render
from backflip.workspace import Generation, VolunteeredIn, Workspace

router = Router(tags=["playground"])
MOST_MODELS = 6
Ids = Annotated[list[Word], Query(min_length=1, max_length=MOST_MODELS)]


class Asked(Record):
    """A prompt for some models, and how they shall reply. The same seed gives the same replies."""

    models: tuple[str, ...] = Field(min_length=1, max_length=MOST_MODELS)
    messages: tuple[Message, ...] = Field(min_length=1, max_length=100)
    temperature: float = Field(default=1.0, ge=0, le=10)
    top_k: int = Field(default=0, ge=0, le=1_000_000)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=128, ge=1, le=4096)
    seed: int | None = Field(default=None, ge=0, le=2**53)


class Compared(Record):
    """What somebody says of two replies, as they stood: `a` on the left."""

    a: str
    b: str
    choice: Literal["a", "b", "tie", "both_bad"]
    strength: int = Field(default=0, ge=0, le=3, strict=True)


@router.get("/projects/{project}/playground", include_in_schema=False)
def playground_page(request: Request, project: str, visitor: Lead) -> Response:
    """The page; it says when no worker is there to reply."""
    workspace = visitor.context.workspace
    return lead_page(
        request,
        "playground.html",
        visitor,
        workspace.projects.get(project),
        models=talking_models(workspace),
        alive=workspace.generations.worker_alive(),
        root=str(workspace.root),
        most=MOST_MODELS,
    )


@router.post("/api/projects/{project}/playground", status_code=201)
def ask(project: str, asked: Asked, visitor: Lead) -> dict[str, Any]:
    """Ask models for a reply each; follow them by their ids."""
    workspace = visitor.context.workspace
    if asked.messages[-1].role != "user":
        raise HTTPException(422, "The last turn must be the user's.")
    prompt = Prompt(content=Dialogue(messages=asked.messages), source="playground")
    seed = secrets.randbelow(2**53) if asked.seed is None else asked.seed
    settings = asked.model_dump(include={"temperature", "top_k", "top_p", "max_tokens"})
    models = [workspace.models.get(name) for name in asked.models]
    for model in models:
        require_talking(model)
    ids = [
        workspace.generations.ask(
            visitor.user.id,
            "playground",
            model.id,
            prompt,
            settings,
            seed=seed,
            project=project,
        )
        for model in models
    ]
    return {"seed": seed, "generations": ids, "worker": workspace.generations.worker_alive()}


@router.get("/api/projects/{project}/generations")
def get_generations(
    project: str,
    visitor: Lead,
    id: Ids,  # noqa: A002
) -> list[dict[str, Any]]:
    """How far replies are."""
    return [_shown(each) for each in _mine(visitor.context.workspace, visitor, project, id)]


@router.get("/api/projects/{project}/generations/events", response_class=EventSourceResponse)
async def follow_generations(
    project: str,
    visitor: Lead,
    id: Ids,  # noqa: A002
) -> EventSourceResponse:
    """Server-sent events: replies whenever they have grown, until all have ended."""
    workspace = visitor.context.workspace
    await run_in_threadpool(_mine, workspace, visitor, project, id)
    return follow(workspace.generations, id, _shown)


@router.post("/api/projects/{project}/generations/cancel")
def cancel(project: str, visitor: Lead, id: Ids) -> dict[str, Any]:  # noqa: A002
    """Stop replies that are not wanted any more."""
    workspace = visitor.context.workspace
    found = _mine(workspace, visitor, project, id)
    return {"cancelled": sum(workspace.generations.cancel(each.id) for each in found)}


@router.post("/api/projects/{project}/playground/compare")
def compare(project: str, said: Compared, visitor: Lead) -> dict[str, Any]:
    """Keep what the user says of two replies as feedback; said again, the new word replaces it."""
    workspace = visitor.context.workspace
    pair = _mine(workspace, visitor, project, [said.a, said.b])
    samples = [each.sample_id for each in pair]
    if len(pair) != 2 or None in samples:
        raise ConflictError("one of the two is not done yet")
    if pair[0].prompt.id != pair[1].prompt.id:
        raise ConflictError("the two reply to different prompts")
    if samples[0] == samples[1]:
        raise ConflictError("the two are the same reply")
    entry = Comparison(
        annotator=visitor.user.annotator,
        samples=(str(samples[0]), str(samples[1])),
        choice=said.choice,
        strength=said.strength,
        shown=(0, 1),
    )
    place = VolunteeredIn(project=project, run=f"playground-{project}", name="Playground")
    return {"entry": workspace.volunteered.put(place, entry, visitor.user.id)}


def _mine(workspace: Workspace, visitor: Lead, project: str, ids: list[str]) -> list[Generation]:
    """What the user asked for in the project; a `NotFoundError` for anything else."""
    found = workspace.generations.get_many(ids)
    for name in ids:
        each = found.get(name)
        if each is None or each.user != visitor.user.id or each.project != project:
            raise NotFoundError(f"no generation {name!r} of yours")
    return list(found.values())


def _shown(generation: Generation) -> dict[str, Any]:
    return {
        "id": generation.id,
        "model": generation.model,
        "state": generation.state,
        "html": render(generation.text).html,
        "error": generation.error,
        "sample": generation.sample_id is not None,
        "truncated": bool(generation.truncated),
    }
