"""Feedback of a project into files and out of them, and taking it back."""

from collections.abc import Iterator
from typing import IO, Annotated, Any

from fastapi import HTTPException, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import Field
from starlette.types import Receive, Scope, Send

from backflip.data.scratch import scratch_folder
from backflip.errors import NotFoundError
from backflip.records import Record
from backflip.records.door import MAX_NAME
from backflip.records.feedback import KINDS
from backflip.web.access import Lead
from backflip.web.guard import Router
from backflip.web.lead import lead_page, names_of
from backflip.web.parameters import Word
from backflip.web.uploads import BODY, AnyUpload
from backflip.workspace import Touched, Workspace, touched

router = Router(tags=["data"])
ENDINGS = {"backflip-parquet": ".parquet", "argilla": ".json", "label-studio": ".json"}
"""How a file of a format ends; the others are JSON Lines."""
_PIECE = 2**20


class OpenFile(StreamingResponse):
    """A file that is open already; it is closed however the response ends."""

    def __init__(self, file: IO[bytes], headers: dict[str, str]):
        self._file = file
        super().__init__(_pieces(file), headers=headers, media_type="application/octet-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


class Reason(Record):
    """Why something is taken back."""

    reason: str = Field(default="", max_length=2000)


@router.get("/projects/{project}/data", include_in_schema=False)
def data_page(request: Request, project: str, visitor: Lead) -> Response:
    """Import, export, and whose answers there are."""
    from backflip.formats import FORMATS

    workspace = visitor.context.workspace
    known = workspace.projects.get(project)
    names = names_of(workspace, project)
    people = [
        {"annotator": annotator, "name": names.get(annotator, annotator), "done": done}
        for annotator, (done, _) in workspace.batches.shares(project).items()
    ]
    return lead_page(
        request,
        "data.html",
        visitor,
        known,
        formats={name: each.summary for name, each in FORMATS.items()},
        kinds=sorted(KINDS),
        people=people,
        megabytes=visitor.context.settings.upload_megabytes,
    )


@router.get(
    "/api/projects/{project}/export",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
def export(
    project: str,
    visitor: Lead,
    format: Annotated[str, Query(max_length=50)] = "backflip-jsonl",  # noqa: A002
    kind: Annotated[list[Word] | None, Query(max_length=20)] = None,
) -> Response:
    """The project's feedback that counts, in a format of the store; of these kinds or all."""
    from backflip.formats import export_file, find_format

    workspace = visitor.context.workspace
    workspace.projects.get(project)
    found = find_format(format)
    if strange := sorted(set(kind or ()) - set(KINDS)):
        raise HTTPException(422, f"There is no kind of feedback {strange[0]!r}.")
    with scratch_folder() as folder:
        path = folder / f"feedback{ENDINGS.get(found.name, '.jsonl')}"
        runs = _runs(workspace, project)
        written = export_file(workspace, path, found.name, kinds=kind or None, runs=runs)
        file = path.open("rb")  # it stays readable after its name is gone
    headers = {
        "content-disposition": f'attachment; filename="{project}-{path.name}"',
        "x-backflip-rows": str(written.rows),
        "x-backflip-left-out": str(sum(written.left_out.values())),
    }
    return OpenFile(file, headers)


@router.post("/api/projects/{project}/import", openapi_extra=BODY)
def import_upload(project: str, visitor: Lead, upload: AnyUpload) -> dict[str, Any]:
    """Add a file's feedback to the project; bad rows are listed, and good ones kept."""
    from backflip.formats import import_file

    workspace = visitor.context.workspace
    run = f"import-{project}"
    with scratch_folder() as folder:
        path = upload.save(folder)
        workspace.queue.put(run, 0, [], project=project, name="Imported files", purpose="asides")
        report = import_file(workspace, path, upload.form.format, axis=upload.form.axis, run=run)
    return {
        "file": report.file,
        "format": report.format,
        "entries": report.entries,
        "new": report.new,
        "rejected": report.num_rejected,
        "ignored": dict(report.ignored),
        "faults": [f"line {each.line}: {each.reason}" for each in report.rejected[:20]],
    }


@router.post("/api/projects/{project}/entries/{entry}/withdraw")
def withdraw_entry(project: str, entry: str, reason: Reason, visitor: Lead) -> dict[str, Any]:
    """Take one answer back, and say what was made from it."""
    workspace = visitor.context.workspace
    row = workspace.journal.history(entry)[0]
    if row.entry is None or row.run not in _runs(workspace, project):
        raise NotFoundError(f"no entry {entry!r} in this project")
    done = workspace.journal.retract(entry, reason.reason or "withdrawn", visitor.user.annotator)
    workspace.reports.want(project)
    return {"withdrawn": int(done), **_told(touched(workspace, [entry]))}


@router.post("/api/projects/{project}/withdraw")
def withdraw_annotator(
    project: str,
    annotator: Annotated[str, Query(min_length=1, max_length=MAX_NAME)],
    reason: Reason,
    visitor: Lead,
) -> dict[str, Any]:
    """Take back all that somebody said in the project, and say what was made from it."""
    workspace = visitor.context.workspace
    by, why = visitor.user.annotator, reason.reason or "withdrawn"
    done = workspace.journal.retract_annotator(annotator, why, by, project=project)
    if not done:
        raise NotFoundError("nothing that this person said in this project counts")
    workspace.reports.want(project)
    return {"withdrawn": len(done), **_told(touched(workspace, done))}


def _runs(workspace: Workspace, project: str) -> list[str]:
    return list(dict.fromkeys(batch.run for batch in workspace.batches.all(project)))


def _told(found: Touched) -> dict[str, Any]:
    return {
        "snapshots": list(found.snapshots),
        "reward_models": [model.name for model in found.reward_models],
        "policies": [model.name for model in found.policies],
    }


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece
