"""What the pages of a project's lead share: its frame with the tabs, and people's names."""

from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import HTMLResponse

from backflip.web.access import Visitor
from backflip.web.pages import embedded, page
from backflip.web.texts import catalogue, language_of
from backflip.workspace import ModelRecord, Project, Workspace


def lead_page(
    request: Request, template: str, visitor: Visitor, project: Project, **values: Any
) -> HTMLResponse:
    """A page that extends `project.html`, which shows the tabs of the project."""
    return scripted(request, template, visitor, project=project, **values)


def scripted(request: Request, template: str, visitor: Visitor, **values: Any) -> HTMLResponse:
    """A page whose scripts speak the visitor's language: it holds the texts in `texts`."""
    language = language_of(request, visitor.user.preferences.get("language"))
    return page(request, template, visitor, texts=embedded(catalogue(language)), **values)


def names_of(workspace: Workspace, project: str) -> dict[str, str]:
    """Names of the users by their pseudonyms; who was forgotten, in this project too, has none."""
    unnamed = workspace.projects.unnamed(project)
    return {u.annotator: u.name for u in workspace.people.all() if u.id not in unnamed}


def talking_models(workspace: Workspace) -> list[ModelRecord]:
    """Models that may reply, newest first."""
    return [model for model in workspace.models.readable() if model.stage != "reward"][::-1]


def require_talking(model: ModelRecord) -> None:
    """Refuse a model that does not reply."""
    if model.stage == "reward":
        raise HTTPException(422, f"{model.name} is a reward model: it scores, and does not reply.")
