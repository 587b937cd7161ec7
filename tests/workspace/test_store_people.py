"""Users, sessions, tokens and invitations: what was told once is never kept, and all of it ends."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import sqlalchemy as sa

from backflip.errors import NotFoundError, WorkspaceError
from backflip.records import Sample
from backflip.records.feedback import GoodBad
from backflip.workspace import Workspace, forget_user
from backflip.workspace.database import schema


class Clock:
    """A clock that is set by hand."""

    time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock(workspace: Workspace) -> Clock:
    workspace.people.clock = Clock()
    return workspace.people.clock


def test_no_key_is_kept_in_the_database(workspace: Workspace, clock: Clock) -> None:
    people = workspace.people
    user = people.add("mia", password="hashed", admin=True)  # noqa: S106
    key, session = people.start_session(user.id, 60)
    keys = [key, people.add_token(user.id, "laptop"), people.invite(None, "lead")]
    with workspace.database.read() as connection:
        rows = [
            str(value)
            for table in (schema.sessions, schema.tokens, schema.invites, schema.login_failures)
            for row in connection.execute(sa.select(table))
            for value in row
        ]
    assert not any(each in value for each in keys for value in rows)
    assert people.session(key) == session
    assert people.of_token(keys[1]) == user
    assert "hashed" not in repr(user)


def test_a_session_ends(workspace: Workspace, clock: Clock) -> None:
    people = workspace.people
    people.add("boss", admin=True)
    user = people.add("mia")
    keys = [people.start_session(user.id, 60)[0] for _ in range(4)]
    assert all(people.session(key) for key in keys)
    people.end_session(keys[0])
    assert [people.session(key) is None for key in keys] == [True, False, False, False]
    clock.time += 60
    assert people.session(keys[1]) is None
    for values in ({"password": "other"}, {"active": False}):
        key, _ = people.start_session(user.id, 60)
        token = people.add_token(user.id, "laptop")
        assert people.of_token(token) is not None
        people.change(user.id, **values)
        assert people.session(key) is None
    assert people.of_token(token) is None
    assert people.session("strange") is None
    assert people.session("\ud800") is None


def test_tokens_are_listed_by_name_and_dropped_by_their_owner(workspace: Workspace) -> None:
    people = workspace.people
    mia, bob = people.add("mia"), people.add("bob")
    key = people.add_token(mia.id, "laptop")
    (token,) = people.tokens(mia.id)
    assert token.name == "laptop"
    assert not people.drop_token(bob.id, token.number)
    assert people.of_token(key) == mia
    assert people.drop_token(mia.id, token.number)
    assert people.of_token(key) is None


def test_an_invitation_gives_a_role_and_is_used_up(workspace: Workspace, clock: Clock) -> None:
    people = workspace.people
    project = workspace.projects.create("Kindness")
    key = people.invite(project.id, "annotator", uses=2, seconds=100)
    mia = people.join(key, name="mia")
    with pytest.raises(WorkspaceError, match="'mia' is taken"):
        people.join(key, name="mia")
    assert people.invitation(key).uses == 1  # pyright: ignore
    bob = people.add("bob")
    people.join(key, user=bob.id)
    assert workspace.projects.roles(project=project.id) == {
        mia.id: "annotator",
        bob.id: "annotator",
    }
    assert people.invitation(key) is None
    with pytest.raises(WorkspaceError, match="used up or too old"):
        people.join(key, name="ann")
    late = people.invite(project.id, "lead", seconds=100)
    clock.time += 101
    with pytest.raises(WorkspaceError, match="used up or too old"):
        people.join(late, name="ann")
    assert people.named("ann") is None
    first = people.join(people.invite(None, "lead"), name="boss")
    assert first.admin
    assert not mia.admin
    assert people.join(people.invite(None, "lead"), user=bob.id).admin
    with pytest.raises(WorkspaceError, match="no project"):
        people.invite("nowhere", "lead")


@pytest.mark.parametrize("how", ["join", "join as user", "add", "change"])
def test_the_first_administrator_voids_all_other_links(workspace: Workspace, how: str) -> None:
    """However it is made, and whichever server told the link; other invitations stay."""
    people = workspace.people
    mia = people.add("mia")
    project = workspace.projects.create("Kindness")
    member = people.invite(project.id, "annotator")
    links = [people.set_up(60) for _ in range(3)]
    assert None not in links
    mine = str(links.pop())
    if how == "join":
        assert people.join(mine, name="boss").admin
    elif how == "join as user":
        assert people.join(mine, user=mia.id).admin
    elif how == "add":
        people.add("boss", admin=True)
    else:
        people.change(mia.id, admin=True)
    for link in (mine, *map(str, links)):
        assert people.invitation(link) is None
        with pytest.raises(WorkspaceError, match="used up or too old"):
            people.join(link, name="eve")
    assert [user.admin for user in people.all()].count(True) == 1
    assert people.set_up(60) is None
    assert people.invitation(member) is not None
    # From now on administrators invite, as many as they like.
    more = [people.invite(None, "lead") for _ in range(2)]
    assert all(people.join(key, name=f"more {n}").admin for n, key in enumerate(more))


def test_a_link_for_the_first_account_dies_with_time(workspace: Workspace, clock: Clock) -> None:
    key = workspace.people.set_up(60)
    assert key is not None
    clock.time += 59
    assert workspace.people.invitation(key) is not None
    clock.time += 1
    with pytest.raises(WorkspaceError, match="too old"):
        workspace.people.join(key, name="boss")
    assert workspace.people.all() == []


def test_of_many_who_sign_up_at_once_one_is_administrator(workspace: Workspace) -> None:
    """Each on a server of its own, with a link of its own, while another server is started."""
    servers = [Workspace.open(workspace.root) for _ in range(4)]
    links = [str(each.people.set_up(60)) for each in servers]
    start = Barrier(len(servers) + 1)

    def join(number: int) -> bool:
        start.wait()
        try:
            return servers[number].people.join(links[number], name=f"boss {number}").admin
        except NotFoundError:
            return False

    def begin() -> str | None:
        start.wait()
        return workspace.people.set_up(60)

    with ThreadPoolExecutor(len(servers) + 1) as pool:
        told = pool.submit(begin)
        made = list(pool.map(join, range(len(servers))))
    for each in servers:
        each.close()
    assert made.count(True) == 1
    assert [user.admin for user in workspace.people.all()] == [True]
    late = told.result()
    assert late is None or workspace.people.invitation(late) is None


def test_invitations_are_listed_and_revoked_where_they_belong(
    workspace: Workspace, clock: Clock
) -> None:
    people = workspace.people
    here, elsewhere = (workspace.projects.create(name).id for name in ("Kindness", "Elsewhere"))
    boss = people.add("boss", admin=True)
    key = people.invite(here, "annotator", uses=2, seconds=100, author=boss.id)
    people.invite(here, "lead", seconds=50)
    other = people.invite(elsewhere, "annotator")
    first = people.invite(None, "lead")
    one, two = people.invitations(here)
    assert (one.role, one.uses, one.expires, one.author) == ("annotator", 2, 1100.0, boss.id)
    assert (two.role, two.uses, two.author) == ("lead", 1, None)
    assert [i.project for i in people.invitations(elsewhere)] == [elsewhere]
    assert [i.project for i in people.invitations(None)] == [None]
    clock.time += 50
    assert [i.number for i in people.invitations(here)] == [one.number]
    people.join(key, name="mia")
    assert [i.uses for i in people.invitations(here)] == [1]
    for wrong in (elsewhere, None, "nowhere"):
        with pytest.raises(WorkspaceError, match="no invitation"):
            people.revoke(wrong, one.number)
    assert people.invitation(key) is not None
    people.revoke(here, one.number)
    people.revoke(None, people.invitations(None)[0].number)
    assert people.invitations(here) == people.invitations(None) == []
    assert people.invitation(key) is people.invitation(first) is None
    with pytest.raises(WorkspaceError, match="used up or too old"):
        people.join(key, name="ann")
    assert people.invitation(other) is not None
    with pytest.raises(WorkspaceError, match="no invitation"):
        people.revoke(here, one.number)


def test_the_last_administrator_stays(workspace: Workspace) -> None:
    people = workspace.people
    boss = people.add("boss", admin=True)
    for change in ({"admin": False}, {"active": False}):
        with pytest.raises(WorkspaceError, match="last administrator"):
            people.change(boss.id, **change)
    with pytest.raises(WorkspaceError, match="last administrator"):
        forget_user(workspace, boss.id, "keep", by="boss")
    assert people.get(boss.id).admin
    people.add("second", admin=True)
    assert not people.change(boss.id, admin=False).admin
    with pytest.raises(TypeError, match="no name to change"):
        people.change(boss.id, name="x")


def test_a_forgotten_user_leaves_a_pseudonym(workspace: Workspace, samples: list[Sample]) -> None:
    people = workspace.people
    project = workspace.projects.create("Kindness")
    people.add("boss", admin=True)
    mia = people.join(people.invite(project.id, "annotator"), name="Mia Mustermann")
    key, _ = people.start_session(mia.id, 60)
    people.add_token(mia.id, "laptop")
    people.invite(project.id, "annotator", author=mia.id)
    workspace.journal.add([GoodBad(annotator=mia.annotator, sample=samples[0].id, good=True)])
    assert forget_user(workspace, mia.id, "keep", by="boss").annotator == mia.annotator
    assert people.session(key) is None
    assert workspace.projects.roles(project=project.id) == {}
    assert [e.annotator for e in workspace.journal.active()] == [mia.annotator]
    with workspace.database.read() as connection:
        for table in schema.metadata.tables.values():
            for row in connection.execute(sa.select(table)):
                assert not any("Mustermann" in str(value) or mia.id in str(value) for value in row)


def test_failures_are_counted_for_a_while(workspace: Workspace, clock: Clock) -> None:
    people = workspace.people
    for _ in range(3):
        people.note_failure("mia", "127.0.0.1")
        clock.time += 10
    people.note_failure("bob", "127.0.0.1")
    assert (people.failures("mia", 100), people.failures("127.0.0.1", 100)) == (3, 4)
    assert people.failures("mia", 15) == 1
    assert people.failures("ann", 100) == 0


def test_a_secret_is_shared(workspace: Workspace) -> None:
    with Workspace.open(workspace.root) as other:
        assert other.people.secret("cookies") == workspace.people.secret("cookies")
        assert other.people.secret("other") != workspace.people.secret("cookies")
