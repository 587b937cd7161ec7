"""Deleting what is known of a person: the account, or the part in one project.

What the person said stays under its pseudonym, or is taken back, or is erased; that is for who
deletes to say. All of it is done, or nothing.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backflip.errors import ConflictError, NotFoundError
from backflip.workspace.accounts.people import User, delete_user, get_user
from backflip.workspace.database import schema
from backflip.workspace.database.engine import insert
from backflip.workspace.material.entries import retract_all_of, runs_of
from backflip.workspace.privacy import erasing
from backflip.workspace.projects.projects import get_project, require_role
from backflip.workspace.workspace import Workspace

Fate = Literal["keep", "retract", "erase"]
"""What becomes of answers: they stay, are taken back, or go with every word the person wrote."""
_LOCKS = ("projects", *erasing.LOCKS)
_members, _journal, _batches = schema.memberships, schema.journal, schema.batches


@dataclass(frozen=True)
class Forgotten:
    """What has become of somebody.

    Attributes:
        annotator: the pseudonym under which the answers stand.
        account_deleted: whether the account is gone too.
        retracted: ids of the entries that counted until now.
        texts_kept: number of replies and prompts whose words stay, because others speak of them.
        projects: ids of the projects in which the person had answered.
    """

    annotator: str
    account_deleted: bool
    retracted: list[str]
    texts_kept: int
    projects: list[str]


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
        done = _forget_user(connection, get_user(connection, user), answers, by)
    _sweep(workspace, answers)
    return done


def forget_member(
    workspace: Workspace,
    project: str,
    user: str,
    answers: Fate,
    *,
    by: User,
    deletes_account: bool | None = None,
) -> Forgotten:
    """Delete what a project knows of somebody; the account goes too, unless it is needed elsewhere.

    A person who keeps the account is not named in the project any more.

    Args:
        workspace: that holds both.
        project: its id.
        user: id of a member, or of somebody who was one and has answered.
        answers: what becomes of what the person said in the project.
        by: who does it, a lead of the project.
        deletes_account: what `by` was told about the account; None where nothing was told.

    Raises:
        NotFoundError: no such project, or the project does not know the user.
        ConflictError: the account goes and was said to stay, or the other way round.
    """
    with workspace.database.write(*_LOCKS) as connection:
        get_project(connection, project)
        require_role(connection, project, by.id, "lead")
        known = _known_to(connection, project, user)
        goes = not _is_elsewhere(connection, project, known)
        if deletes_account not in (None, goes):
            fate = "be deleted" if goes else "stay"
            raise ConflictError(f"the account would {fate} by now", hint="Load the page again.")
        if goes:
            forgotten = _forget_user(connection, known, answers, by.annotator)
        else:
            done = _settle(connection, known.annotator, answers, by.annotator, project)
            this = _members.c.project == project, _members.c.user == user
            connection.execute(sa.delete(_members).where(*this))
            unnamed = insert(connection, schema.unnamed).on_conflict_do_nothing()
            connection.execute(unnamed, {"project": project, "user": user})
            texts = done.retracted, done.texts_kept
            forgotten = Forgotten(known.annotator, False, *texts, [project])
    _sweep(workspace, answers)
    return forgotten


def _sweep(workspace: Workspace, answers: Fate) -> None:
    """Delete the images that no words show any more, once the erasure is written."""
    if answers == "erase":
        workspace.media.sweep()


def known_person(workspace: Workspace, project: str, user: str) -> tuple[User, bool]:
    """Somebody whom a project knows by name, and whether the account is needed elsewhere.

    It is where the person administers the server or was signed out of it by an administrator, is a
    member of another project, or has said, asked or written something there.

    Raises:
        NotFoundError: the user is no member, and was none that has answered and is named still.
    """
    with workspace.database.read() as connection:
        known = _known_to(connection, project, user)
        return known, _is_elsewhere(connection, project, known)


def _known_to(connection: Connection, project: str, user: str) -> User:
    member = sa.select(_members.c.user).where(
        _members.c.project == project, _members.c.user == user
    )
    if connection.execute(member).scalar() is not None:
        return get_user(connection, user)
    users, given, unnamed = schema.users, schema.contributions, schema.unnamed
    left = sa.select(users.c.id).where(users.c.id == user)
    left = left.join(given, given.c.annotator == users.c.annotator)
    left = left.join(_batches, _batches.c.number == given.c.batch)
    hidden = sa.exists().where(unnamed.c.project == project, unnamed.c.user == user)
    if connection.execute(left.where(_batches.c.project == project, ~hidden)).first() is None:
        raise NotFoundError(f"no member {user!r} in this project")
    return get_user(connection, user)


def _forget_user(connection: Connection, user: User, answers: Fate, by: str) -> Forgotten:
    given = schema.contributions
    query = sa.select(_batches.c.project).join(given, given.c.batch == _batches.c.number)
    query = query.where(given.c.annotator == user.annotator).distinct()
    projects = list(connection.execute(query.order_by(_batches.c.project)).scalars())
    done = _settle(connection, user.annotator, answers, by)
    delete_user(connection, user)
    return Forgotten(user.annotator, True, done.retracted, done.texts_kept, projects)


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


def _is_elsewhere(connection: Connection, project: str, user: User) -> bool:
    if user.admin or not user.active:
        return True
    given, written = schema.contributions, schema.guidelines
    here = sa.and_(_journal.c.run.is_not(None), _journal.c.run.in_(runs_of(project)))
    batches = sa.select(_batches.c.number).where(_batches.c.project == project)
    traces: list[tuple[sa.Table, sa.ColumnElement[bool]]] = [
        (_members, sa.and_(_members.c.user == user.id, _members.c.project != project)),
        (_journal, sa.and_(_journal.c.annotator == user.annotator, ~here)),
        (given, sa.and_(given.c.annotator == user.annotator, given.c.batch.not_in(batches))),
        (written, sa.and_(written.c.author == user.annotator, written.c.project != project)),
    ]
    for table in (schema.chats, schema.generations):
        elsewhere = table.c.project.is_distinct_from(project)
        traces.append((table, sa.and_(table.c.user == user.id, elsewhere)))
    return any(
        connection.execute(
            sa.select(sa.literal(1)).select_from(table).where(which).limit(1)
        ).first()
        for table, which in traces
    )
