"""Deleting a person's data: the account by an administrator, the part in a project by its lead."""

from typing import Self

from fastapi import Request
from fastapi.responses import Response
from pydantic import Field

from backflip.errors import ConflictError
from backflip.records import Record
from backflip.web.access import Admin, Lead
from backflip.web.guard import Router
from backflip.web.lead import lead_page, scripted
from backflip.workspace import (
    Fate,
    Forgotten,
    User,
    Workspace,
    forget_member,
    forget_user,
    known_person,
    touched,
)

router = Router(tags=["people"])


class Forgetting(Record):
    """What becomes of the answers: "keep" them under the pseudonym, or "retract" them all.

    To "erase" is to retract them and to take out of the database what the person wrote.
    """

    answers: Fate


class LeadForgetting(Forgetting):
    """The same by a lead, who may not know whether the person takes part elsewhere."""

    deletes_account: bool | None = Field(
        default=None, description="refused unless the account goes, or stays, as this says"
    )


class ForgottenView(Record):
    """What has become of a person's data, and what was made from the answers taken back."""

    annotator: str = Field(description="pseudonym under which the answers stand")
    account_deleted: bool = Field(description="whether the account is gone too")
    retracted: int = Field(description="answers that counted until now")
    texts_kept: int = Field(description="texts not erased, because others speak of them")
    snapshots: tuple[str, ...]
    reward_models: tuple[str, ...] = Field(description="names; to be trained again, as policies")
    policies: tuple[str, ...]

    @classmethod
    def of(cls, workspace: Workspace, done: Forgotten) -> Self:
        """As the API tells it."""
        found = touched(workspace, done.retracted)
        return cls(
            annotator=done.annotator,
            account_deleted=done.account_deleted,
            retracted=len(done.retracted),
            texts_kept=done.texts_kept,
            snapshots=found.snapshots,
            reward_models=tuple(model.name for model in found.reward_models),
            policies=tuple(model.name for model in found.policies),
        )


@router.get("/admin/people/{user}/forget", include_in_schema=False)
def forget_user_page(request: Request, user: str, visitor: Admin) -> Response:
    """Asks what shall become of the answers before a user is forgotten."""
    workspace = visitor.context.workspace
    known = workspace.people.get(user)
    _require_other(visitor.user, user)
    given = workspace.journal.count(annotator=known.annotator)
    return scripted(request, "forget_user.html", visitor, user=known, given=given)


@router.post("/api/users/{user}/forget")
def forget(user: str, forgetting: Forgetting, visitor: Admin) -> ForgottenView:
    """Delete a user and all that tells who it was.

    The answers stay under a pseudonym that nobody can resolve any more, or are taken back first,
    with what the person wrote or without it.
    """
    workspace = visitor.context.workspace
    _require_other(visitor.user, user)
    done = forget_user(workspace, user, forgetting.answers, by=visitor.user.annotator)
    _renew_reports(workspace, done)
    return ForgottenView.of(workspace, done)


@router.get("/projects/{project}/people/{user}/forget", include_in_schema=False)
def forget_member_page(request: Request, project: str, user: str, visitor: Lead) -> Response:
    """Asks what shall become of the answers before a member's data are deleted."""
    workspace = visitor.context.workspace
    known = workspace.projects.get(project)
    person, stays = known_person(workspace, project, user)
    _require_other(visitor.user, user)
    given = workspace.journal.count(annotator=person.annotator, project=project)
    values = {"user": person, "given": given, "stays": stays}
    return lead_page(request, "forget_member.html", visitor, known, **values)


@router.post("/api/projects/{project}/members/{user}/forget")
def forget_of_project(
    project: str, user: str, forgetting: LeadForgetting, visitor: Lead
) -> ForgottenView:
    """Delete what the project knows of a member, or of who was one; what was said stays or goes.

    The account is deleted too, unless it is needed elsewhere: the person administers the server, is
    not allowed to sign in, is a member of another project, or has said something there. Then the
    project's pages name the person no more.
    """
    workspace = visitor.context.workspace
    _require_other(visitor.user, user)
    done = forget_member(
        workspace,
        project,
        user,
        forgetting.answers,
        by=visitor.user,
        deletes_account=forgetting.deletes_account,
    )
    _renew_reports(workspace, done)
    return ForgottenView.of(workspace, done)


def _renew_reports(workspace: Workspace, done: Forgotten) -> None:
    for project in done.projects if done.retracted else ():
        workspace.reports.want(project)


def _require_other(visitor: User, user: str) -> None:
    if visitor.id == user:
        raise ConflictError(
            "you cannot forget yourself", hint="Ask another lead or administrator to forget you."
        )
