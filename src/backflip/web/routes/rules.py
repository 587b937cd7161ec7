"""A project's instructions and rules."""

from typing import Annotated

from fastapi import Request
from fastapi.responses import Response
from markupsafe import Markup
from pydantic import Field, field_validator

from backflip.errors import NotFoundError
from backflip.records import Record
from backflip.web.access import Lead
from backflip.web.guard import Router
from backflip.web.lead import lead_page, names_of, require_talking, talking_models
from backflip.web.parameters import Number
from backflip.web.rendering import Rendered, render
from backflip.workspace import Guideline, Project, ProjectSettings, Workspace

router = Router(tags=["rules"])
Label = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
Text = Annotated[str, Field(min_length=1, max_length=100_000, pattern=r"\S")]


class Rules(ProjectSettings):
    """A project's rules, all of them."""

    reasons: tuple[Label, ...] = Field(max_length=50)
    marks: tuple[Label, ...] = Field(max_length=50)
    critique: bool = Field(strict=True)
    correction: bool = Field(strict=True)
    safety: bool = Field(strict=True)
    overlap: int = Field(ge=1, le=1000, strict=True)
    check_every: int | None = Field(ge=2, le=1000, strict=True)
    min_seconds: float = Field(ge=0, le=3600, strict=True)
    budget: int | None = Field(ge=1, le=2**31 - 1, strict=True)
    budget_per_person: int | None = Field(ge=1, le=2**31 - 1, strict=True)
    chat_model: str | None = Field(max_length=200)
    chat_temperature: float = Field(gt=0, le=10, strict=True)
    chat_top_p: float = Field(gt=0, le=1, strict=True)
    chat_max_tokens: int = Field(ge=1, le=4096, strict=True)

    @field_validator("reasons", "marks")
    @classmethod
    def _check(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        stripped = tuple(label.strip() for label in labels)
        if twice := [label for label in stripped if stripped.count(label) > 1]:
            raise ValueError(f"names {twice[0]!r} twice")
        return stripped


class GuidelineText(Record):
    """Instructions in Markdown."""

    text: Text


class Preview(Record):
    """Instructions as annotators see them: safe HTML, and codes of what is shown as signs."""

    html: str
    notes: tuple[str, ...]


class GuidelineView(Record):
    """A version of the instructions. `author` is a pseudonym of who is gone."""

    version: int
    text: str
    author: str
    created: str


@router.get("/projects/{project}/rules", include_in_schema=False)
def rules_page(request: Request, project: str, visitor: Lead) -> Response:
    """The instructions, the rules, the project's name and whether it is archived."""
    workspace = visitor.context.workspace
    known = workspace.projects.get(project)
    return lead_page(
        request,
        "rules.html",
        visitor,
        known,
        versions=_guidelines(workspace, project),
        models=talking_models(workspace),
    )


@router.get("/projects/{project}/rules/versions/{version}", include_in_schema=False)
def version_page(request: Request, project: str, version: Number, visitor: Lead) -> Response:
    """A version of the instructions."""
    workspace = visitor.context.workspace
    known = workspace.projects.get(project)
    for guideline in _guidelines(workspace, project):
        if guideline.version == version:
            html = Markup(render(guideline.text).html)  # noqa: S704  (it is safe)
            return lead_page(
                request, "guideline.html", visitor, known, guideline=guideline, html=html
            )
    raise NotFoundError(f"there is no version {version} of the instructions")


@router.get("/api/projects/{project}/guidelines")
def list_guidelines(project: str, visitor: Lead) -> list[GuidelineView]:
    """All versions of the instructions, newest first."""
    visitor.context.workspace.projects.get(project)
    return _guidelines(visitor.context.workspace, project)


@router.post("/api/projects/{project}/guidelines", status_code=201)
def add_guideline(project: str, new: GuidelineText, visitor: Lead) -> GuidelineView:
    """Keep a new version of the instructions; the same text again is no new version.

    Questions that somebody holds keep the version that they were handed out with.
    """
    workspace = visitor.context.workspace
    # The pseudonym and not the name: whoever is forgotten must not be told by what it wrote.
    kept = workspace.projects.add_guideline(project, new.text, visitor.user.annotator)
    return _view(kept, names_of(workspace, project))


@router.post("/api/projects/{project}/guidelines/preview")
def preview_guideline(project: str, draft: GuidelineText, visitor: Lead) -> Preview:
    """Instructions as annotators would see them; nothing is kept."""
    visitor.context.workspace.projects.get(project)
    rendered: Rendered = render(draft.text)
    return Preview(html=rendered.html, notes=rendered.notes)


@router.put("/api/projects/{project}/settings")
def change_rules(project: str, rules: Rules, visitor: Lead) -> Project:
    """Change the rules. Batches that are there keep the overlap that they were put up with."""
    settings = ProjectSettings(**rules.model_dump())
    if settings.chat_model is not None:
        require_talking(visitor.context.workspace.models.get(settings.chat_model))
    return visitor.context.workspace.projects.change(project, settings=settings)


def _guidelines(workspace: Workspace, project: str) -> list[GuidelineView]:
    names = names_of(workspace, project)
    return [_view(guideline, names) for guideline in workspace.projects.guidelines(project)]


def _view(guideline: Guideline, names: dict[str, str]) -> GuidelineView:
    return GuidelineView(
        version=guideline.version,
        text=guideline.text,
        author=names.get(guideline.author, guideline.author),
        created=guideline.created.isoformat(),
    )
