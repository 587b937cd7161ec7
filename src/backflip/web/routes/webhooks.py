"""A project's webhooks."""

from typing import Any

from fastapi import Request
from fastapi.responses import Response
from pydantic import Field

from backflip.records import Record
from backflip.web.access import Lead
from backflip.web.guard import Router
from backflip.web.lead import lead_page
from backflip.web.webhooks import check_address
from backflip.workspace.projects.webhooks import Event

router = Router(tags=["webhooks"])
LAST = 20
"""Deliveries that are shown of each webhook, newest first."""


class NewWebhook(Record):
    """An address to tell of events."""

    url: str = Field(min_length=1, max_length=2000)
    events: tuple[Event, ...] = Field(min_length=1, max_length=10)


@router.get("/projects/{project}/webhooks", include_in_schema=False)
def webhooks_page(request: Request, project: str, visitor: Lead) -> Response:
    """The webhooks, what became of their last deliveries, and a form to add one."""
    workspace = visitor.context.workspace
    known = workspace.projects.get(project)
    hooks = workspace.webhooks.all(project)
    last = {hook.id: workspace.webhooks.deliveries(hook.id, limit=LAST) for hook in hooks}
    return lead_page(request, "webhooks.html", visitor, known, hooks=hooks, deliveries=last)


@router.get("/api/projects/{project}/webhooks")
def list_webhooks(project: str, visitor: Lead) -> list[dict[str, Any]]:
    """The webhooks of a project, each with its last deliveries; secrets are not told again."""
    webhooks = visitor.context.workspace.webhooks
    return [
        {
            **hook.model_dump(mode="json", exclude={"secret", "active"}),
            "deliveries": [
                each.model_dump(include={"number", "event", "state", "attempts", "told"})
                for each in webhooks.deliveries(hook.id, limit=LAST)
            ],
        }
        for hook in webhooks.all(project)
    ]


@router.post("/api/projects/{project}/webhooks", status_code=201)
def add_webhook(project: str, new: NewWebhook, visitor: Lead) -> dict[str, Any]:
    """Tell an address of events from now on. The secret that signs them is told only here."""
    check_address(new.url, inside=visitor.context.settings.webhooks_inside)
    hook = visitor.context.workspace.webhooks.add(project, new.url, new.events)
    return hook.model_dump(mode="json", exclude={"active"})


@router.delete("/api/projects/{project}/webhooks/{webhook}", status_code=204)
def remove_webhook(project: str, webhook: str, visitor: Lead) -> None:
    """Tell an address nothing more."""
    visitor.context.workspace.webhooks.remove(project, webhook)
