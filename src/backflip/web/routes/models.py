"""The models that a project's feedback has shaped, and what stands behind each."""

from typing import Any

from fastapi import Request
from fastapi.responses import Response

from backflip.errors import NotFoundError
from backflip.web.access import Lead, Visitor
from backflip.web.guard import Router
from backflip.web.lead import lead_page, names_of
from backflip.workspace import ModelRecord, Workspace, outline

router = Router(tags=["models"])


@router.get("/projects/{project}/models", include_in_schema=False)
def models_page(request: Request, project: str, visitor: Lead) -> Response:
    """Every model of the project's runs, and how good the reward models were held out."""
    workspace = visitor.context.workspace
    known = workspace.projects.get(project)
    models = [m for m in workspace.models.readable() if m.run in _runs(workspace, project)]
    return lead_page(request, "models.html", visitor, known, models=models[::-1])


@router.get("/projects/{project}/models/{model}", include_in_schema=False)
def model_page(request: Request, project: str, model: str, visitor: Lead) -> Response:
    """What a model was made from, back to each annotator."""
    workspace = visitor.context.workspace
    known = workspace.projects.get(project)
    told = _lineage(visitor, project, model)
    return lead_page(
        request, "model.html", visitor, known, names=names_of(workspace, project), **told
    )


@router.get("/api/projects/{project}/models")
def list_models(project: str, visitor: Lead) -> list[dict[str, Any]]:
    """The models of the project's runs, oldest first."""
    workspace = visitor.context.workspace
    runs = _runs(workspace, project)
    return [_plain(model) for model in workspace.models.readable() if model.run in runs]


@router.get("/api/projects/{project}/models/{model}")
def get_lineage(project: str, model: str, visitor: Lead) -> dict[str, Any]:
    """A model, the models and snapshots behind it, and how many answers of whom."""
    told = _lineage(visitor, project, model)
    return told | {"model": _plain(told["model"]), "behind": [_plain(m) for m in told["behind"]]}


def _lineage(visitor: Visitor, project: str, name: str) -> dict[str, Any]:
    workspace = visitor.context.workspace
    model = workspace.models.get(name)
    if model.run not in _runs(workspace, project):
        raise NotFoundError(f"no model {name!r} in this project")
    found = outline(workspace, model)
    return {
        "model": model,
        "behind": found.models,
        "snapshots": found.snapshots,
        "annotators": found.annotators,
        "entries": sum(found.annotators.values()),
    }


def _runs(workspace: Workspace, project: str) -> set[str]:
    return {batch.run for batch in workspace.batches.all(project)}


def _plain(model: ModelRecord) -> dict[str, Any]:
    return model.model_dump(mode="json", include={"id", "name", "stage", "run", "created"})
