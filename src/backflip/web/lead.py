"""What the pages of a project's lead share: its frame with the tabs, and people's names."""

from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from backflip.feedback.store import Project, Workspace
from backflip.web.access import Visitor
from backflip.web.pages import embedded, page
from backflip.web.texts import catalogue, language_of


def lead_page(
    request: Request, template: str, visitor: Visitor, project: Project, **values: Any
) -> HTMLResponse:
    """A page that extends `project.html`, which shows the tabs of the project."""
    return scripted(request, template, visitor, project=project, **values)


def scripted(request: Request, template: str, visitor: Visitor, **values: Any) -> HTMLResponse:
    """A page whose scripts speak the visitor's language: it holds the texts in `texts`."""
    language = language_of(request, visitor.user.preferences.get("language"))
    return page(request, template, visitor, texts=embedded(catalogue(language)), **values)


def names_of(workspace: Workspace) -> dict[str, str]:
    """Names of the users by their pseudonyms; who was forgotten has none."""
    return {user.annotator: user.name for user in workspace.people.all()}
