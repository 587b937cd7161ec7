"""What a restored workspace does not bring back."""

from pathlib import Path

from backflip.workspace import Workspace
from backflip.workspace.projects.webhooks import note_event
from backflip.workspace.transfer.backup import write_backup
from backflip.workspace.transfer.restore import restore_backup


def test_what_was_of_the_moment_does_not_come_back(
    workspace: Workspace, target: str | None, tmp_path: Path
) -> None:
    """Nobody is signed in or locked out, no server is up, nothing is delivered a second time."""
    people, hooks = workspace.people, workspace.webhooks
    user = people.add("mia", admin=True)
    key, _ = people.start_session(user.id, 3600)
    token = people.add_token(user.id, "laptop")
    people.note_failure("mia")
    workspace.generations.note_worker("worker-1")
    workspace.servers.note("http://127.0.0.1:8000")
    hook = hooks.add(workspace.projects.create("Kindness").id, "https://example.org/", ["answer"])
    with workspace.database.write("webhooks") as connection:
        for number in range(2):
            note_event(connection, hook.project, "answer", {"entry": f"feedback-{number}"})
    (_, first), (_, second) = hooks.take()
    hooks.settle(first.number, "HTTP 204", delivered=True)
    hooks.clock = lambda: 2e10  # when the lease of the second has ended
    write_backup(workspace, tmp_path / "all.tar")
    restore_backup(tmp_path / "all.tar", tmp_path / "new", target)
    with Workspace.open(tmp_path / "new") as restored:
        assert restored.people.session(key) is None
        assert restored.people.failures("mia", 3600) == 0
        assert not restored.generations.worker_alive()
        assert restored.servers.alive() == []
        restored.webhooks.clock = hooks.clock
        assert restored.webhooks.take() == []
        told = {each.number: each for each in restored.webhooks.deliveries(hook.id)}
        assert told.keys() == {first.number, second.number}
        assert (told[first.number].state, told[first.number].told) == ("delivered", "HTTP 204")
        assert told[second.number].state == "failed"
        assert "restored from a backup" in str(told[second.number].told)
        assert restored.people.of_token(token) == user
        assert restored.webhooks.all(hook.project) == [hook]
    assert people.session(key) is not None
    assert [each.number for _, each in hooks.take()] == [second.number]
