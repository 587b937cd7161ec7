"""The answers of a project, newest first, for its lead to read and to take back."""

from typing import Annotated, Any

from fastapi import HTTPException, Query, Request
from fastapi.responses import Response

from backflip.errors import NotFoundError
from backflip.records import Record
from backflip.records.door import MAX_NAME, whole_json
from backflip.records.feedback import KINDS
from backflip.web.access import Lead
from backflip.web.answers import answer_view
from backflip.web.guard import Router
from backflip.web.lead import lead_page, names_of
from backflip.web.pictures import PICTURE, picture
from backflip.workspace import JournalRow, Workspace

router = Router(tags=["data"])
PER_PAGE = 20
Kind = Annotated[str | None, Query(max_length=50)]
Person = Annotated[str | None, Query(max_length=MAX_NAME)]
Before = Annotated[int | None, Query(ge=1, le=2**53)]


class EntryView(Record):
    """An entry that counts: its place in the journal, and the entry as the formats write it."""

    number: int
    id: str
    created: str
    entry: dict[str, Any]


class Entries(Record):
    """A page of entries, newest first; `before` asks for the page behind it, null at the end."""

    entries: tuple[EntryView, ...]
    before: int | None


@router.get("/projects/{project}/answers", include_in_schema=False)
def answers_page(
    request: Request,
    project: str,
    visitor: Lead,
    kind: Kind = None,
    annotator: Person = None,
    before: Before = None,
) -> Response:
    """The answers, in words, each with what it is about."""
    workspace = visitor.context.workspace
    known = workspace.projects.get(project)
    rows, further = _page(workspace, project, kind or None, annotator or None, before)
    entries = [row.entry for row in rows if row.entry is not None]
    samples = workspace.samples.shown({name for entry in entries for name in entry.sample_ids})
    return lead_page(
        request,
        "answers.html",
        visitor,
        known,
        answers=[answer_view(row, samples, project) for row in rows],
        further=further,
        kinds=sorted(KINDS),
        titles={name: kind.question.title for name, kind in KINDS.items()},
        kind=kind,
        annotator=annotator,
        people=sorted(workspace.batches.shares(project)),
        names=names_of(workspace, project),
    )


@router.get("/api/projects/{project}/entries")
def list_entries(
    project: str,
    visitor: Lead,
    kind: Kind = None,
    annotator: Person = None,
    before: Before = None,
) -> Entries:
    """The project's entries that count, newest first, a page at a time."""
    workspace = visitor.context.workspace
    workspace.projects.get(project)
    rows, further = _page(workspace, project, kind, annotator, before)
    return Entries(
        entries=tuple(
            EntryView(
                number=row.number,
                id=row.id,
                created=row.created.isoformat(),
                entry=whole_json(row.entry.model_dump(mode="json")),
            )
            for row in rows
            if row.entry is not None
        ),
        before=further,
    )


@router.get("/api/projects/{project}/samples/{sample}/images/{image}", **PICTURE)
def show_image(project: str, sample: str, image: str, visitor: Lead) -> Response:
    """An image in the prompt of a sample that the project asks about or has answers about."""
    workspace = visitor.context.workspace
    if not workspace.batches.is_about(project, sample):
        raise NotFoundError(f"no sample {sample!r} in this project")
    return picture(workspace, [workspace.samples.shown([sample])[sample].prompt], image)


def _page(
    workspace: Workspace, project: str, kind: str | None, annotator: str | None, before: int | None
) -> tuple[list[JournalRow], int | None]:
    """Rows of a page, and before which number the next one begins."""
    if kind is not None and kind not in KINDS:
        raise HTTPException(422, f"There is no kind of feedback {kind!r}.")
    rounds = [(batch.run, batch.round) for batch in workspace.batches.all(project)]
    found = workspace.journal.newest(
        rounds, kind=kind, annotator=annotator, before=before, limit=PER_PAGE + 1
    )
    shown = found[:PER_PAGE]
    return shown, shown[-1].number if len(found) > PER_PAGE else None
