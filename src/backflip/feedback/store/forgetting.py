"""Deleting what is known of a person: the account, or the part in one project.

What the person said stays under its pseudonym, or is taken back, or is erased; that is for who
deletes to say. All of it is done, or nothing.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backflip.errors import NotFoundError
from backflip.feedback.store import erasing, schema
from backflip.feedback.store.database import insert
from backflip.feedback.store.entries import retract_all_of, runs_of
from backflip.feedback.store.people import delete_user, get_user
from backflip.feedback.store.projects import get_project
from backflip.feedback.store.workspace import Workspace

Fate = Literal["keep", "retract", "erase"]
"""What becomes of answers: they stay, are taken back, or go with every word the person wrote."""
_LOCKS = ("projects", *erasing.LOCKS)
_members, _journal = schema.memberships, schema.journal


@dataclass(frozen=True)
class Forgotten:
    """What has become of somebody.

    Attributes:
        annotator: the pseudonym under which the answers stand.
        account_deleted: whether the account is gone too.
        retracted: ids of the entries that counted until now.
        texts_kept: number of replies and prompts whose words stay, because others speak of them.
    """

    annotator: str
    account_deleted: bool
    retracted: list[str]
    texts_kept: int


def forget_user(workspace: Workspace, user: str, answers: Fate, *, by: str) -> Forgotten:
    """Delete a user and all that tells who it was.

    Args:
        workspace: that holds it.
        user: its id.
        answers: what becomes of all that the person ever said.
        by: who does it: the annotator of the retractions.

    Raises:
        WorkspaceError: no such user, or nobody would be left who may do everything.
    """
    with workspace.database.write(*_LOCKS) as connection:
        return _forget_user(connection, user, answers, by)


def forget_member(
    workspace: Workspace, project: str, user: str, answers: Fate, *, by: str
) -> Forgotten:
    """Delete what a project knows of a member; the account goes too, unless it is needed elsewhere.

    A person who keeps the account is not named in the project any more.

    Args:
        workspace: that holds both.
        project: its id.
        user: id of the member.
        answers: what becomes of what the person said in the project.
        by: who does it: the annotator of the retractions.

    Raises:
        WorkspaceError: no such project or member.
    """
    with workspace.database.write(*_LOCKS) as connection:
        get_project(connection, project)
        this = _members.c.project == project, _members.c.user == user
        if not connection.execute(sa.delete(_members).where(*this)).rowcount:
            raise NotFoundError(f"no member {user!r} in this project")
        if not _is_elsewhere(connection, project, user):
            return _forget_user(connection, user, answers, by)
        name = get_user(connection, user).annotator
        done = _settle(connection, name, answers, by, project)
        unnamed = insert(connection, schema.unnamed).on_conflict_do_nothing()
        connection.execute(unnamed, {"project": project, "user": user})
        return Forgotten(name, False, done.retracted, done.texts_kept)


def is_elsewhere(workspace: Workspace, project: str, user: str) -> bool:
    """Whether a user's account is needed beside a project.

    It is by an administrator, by a member of another project, and by who has said something there.
    """
    with workspace.database.read() as connection:
        return _is_elsewhere(connection, project, user)


def _forget_user(connection: Connection, user: str, answers: Fate, by: str) -> Forgotten:
    known = get_user(connection, user)
    done = _settle(connection, known.annotator, answers, by)
    delete_user(connection, known)
    return Forgotten(known.annotator, True, done.retracted, done.texts_kept)


def _settle(
    connection: Connection, annotator: str, answers: Fate, by: str, project: str | None = None
) -> erasing.Erased:
    """Do with the answers what was said, everywhere or in a project."""
    if answers not in get_args(Fate):
        raise ValueError(f"answers cannot {answers!r}")
    if answers == "erase":
        return erasing.erase_within(connection, annotator, erasing.FORGOTTEN, by, project)
    erasing.release(connection, annotator, project)
    if answers == "keep":
        return erasing.Erased([], 0, 0)
    retracted = retract_all_of(connection, annotator, erasing.FORGOTTEN, by, project)
    return erasing.Erased(retracted, 0, 0)


def _is_elsewhere(connection: Connection, project: str, user: str) -> bool:
    known = get_user(connection, user)
    member = sa.select(_members.c.project).where(
        _members.c.user == user, _members.c.project != project
    )
    here = sa.and_(_journal.c.run.is_not(None), _journal.c.run.in_(runs_of(project)))
    said = sa.select(_journal.c.id).where(_journal.c.annotator == known.annotator, ~here)
    return known.admin or any(
        connection.execute(query.limit(1)).scalar() is not None for query in (member, said)
    )
