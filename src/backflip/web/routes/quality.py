"""How good a project's labels are, and what a lead does where annotators part."""

from typing import Any, Literal

from fastapi import Request
from fastapi.responses import Response
from pydantic import Field

from backflip.quality.report import MAX_CONFLICTS, num_answered
from backflip.records import Record, Sample, content_id
from backflip.records.feedback import Comparison
from backflip.web.access import Lead
from backflip.web.answers import images_of
from backflip.web.guard import Router
from backflip.web.lead import lead_page, names_of
from backflip.web.views import prompt_view, sample_view
from backflip.workspace import Workspace
from backflip.workspace.labelling.adjudication import ADJUDICATED

router = Router(tags=["quality"])
SHOWN_CONFLICTS = 20


class Ruling(Record):
    """A lead's word on an item that annotators answered differently.

    `choice` speaks of the samples in the order of their ids, as the report lists them; `withdraw`
    takes the answers that say otherwise back.
    """

    axis: str = Field(max_length=200)
    samples: tuple[str, str]
    choice: Literal["a", "b", "tie", "both_bad"]
    withdraw: bool = Field(default=False, strict=True)
    reason: str = Field(default="", max_length=2000)


@router.get("/projects/{project}/quality", include_in_schema=False)
def quality_page(request: Request, project: str, visitor: Lead) -> Response:
    """The newest report; where answers came since, a new one is asked for."""
    workspace = visitor.context.workspace
    known = workspace.projects.get(project)
    report = workspace.reports.get(project)
    answered = num_answered(workspace, project)
    stale = report.body is None or report.body["answered"] != answered
    if stale and not report.wanted:
        workspace.reports.want(project)
    conflicts = [] if report.body is None else report.body["conflicts"]
    pairs = [each for each in conflicts if each["kind"] == "comparison"][:SHOWN_CONFLICTS]
    contradictions = [] if report.body is None else report.body["contradictions"]
    return lead_page(
        request,
        "quality.html",
        visitor,
        known,
        report=report,
        stale=stale,
        names=names_of(workspace, project),
        conflicts=_shown(workspace, project, pairs),
        num_conflicts=len(conflicts),
        most=MAX_CONFLICTS,
        contradictions=_shown(workspace, project, contradictions[:SHOWN_CONFLICTS]),
        num_contradictions=len(contradictions),
    )


@router.get("/api/projects/{project}/quality")
def get_quality(project: str, visitor: Lead) -> dict[str, Any]:
    """The newest report, and whether another is being made."""
    report = visitor.context.workspace.reports.get(project)
    return {"made": report.made, "wanted": report.wanted, "report": report.body}


@router.post("/api/projects/{project}/quality", status_code=202)
def want_quality(project: str, visitor: Lead) -> dict[str, Any]:
    """Ask for a new report; it is there when `wanted` is false again."""
    visitor.context.workspace.reports.want(project)
    return {"wanted": True}


@router.post("/api/projects/{project}/adjudicate")
def adjudicate(project: str, ruling: Ruling, visitor: Lead) -> dict[str, Any]:
    """Settle a conflict: the lead's own answer is added, marked as what it is.

    An answer of another round or project is not touched.
    """
    workspace = visitor.context.workspace
    said = Comparison(
        annotator=visitor.user.annotator,
        axis=ruling.axis,
        samples=ruling.samples,
        choice=ruling.choice,
        reason=ruling.reason or None,
        tags=(ADJUDICATED,),
        key=content_id("ruling", project, ruling.axis, sorted(ruling.samples)),
    )
    entry, withdrawn = workspace.adjudications.rule(
        project, visitor.user.id, said, withdraw=ruling.withdraw
    )
    workspace.reports.want(project)
    return {"entry": entry, "withdrawn": withdrawn}


def _prompt_view(sample: Sample, project: str) -> list[dict[str, Any]]:
    return prompt_view(sample.prompt, images_of(project, sample.id))


def _shown(
    workspace: Workspace, project: str, conflicts: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    ids = {name for each in conflicts for name in each["samples"]}
    samples = workspace.samples.shown(ids)
    return [
        {
            **each,
            "prompt": _prompt_view(samples[each["samples"][0]], project),
            "replies": [sample_view(samples[name]) for name in each["samples"]],
        }
        for each in conflicts
        if all(name in samples for name in each["samples"])
    ]
