"""The first page: the projects that a user takes part in."""

from fastapi import Request
from fastapi.responses import Response

from backflip.web.access import AnyUser
from backflip.web.guard import Router
from backflip.web.lead import scripted

router = Router(tags=["home"])


@router.get("/", include_in_schema=False)
def home(request: Request, visitor: AnyUser) -> Response:
    """Projects, with what is open in them."""
    workspace = visitor.context.workspace
    roles = workspace.projects.roles(user=visitor.user.id)
    rows = []
    for project in workspace.projects.all():
        role = "lead" if visitor.user.admin else roles.get(project.id)
        if role is None or (project.archived and role != "lead"):
            continue
        batches = [b for b in workspace.batches.all(project.id) if b.purpose == "labels"]
        wanted = sum(batch.wanted for batch in batches)
        done = sum(batch.done for batch in batches)
        mine = workspace.batches.given(project.id, visitor.user.annotator)
        rows.append(
            {"project": project, "role": role, "wanted": wanted, "done": done, "mine": mine}
        )
    return scripted(request, "home.html", visitor, rows=rows)
