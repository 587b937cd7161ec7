"""Replies that people wait for: each is drawn by one worker, never lost, and ended for good."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from subprocess import Popen
from typing import Any

import pytest
from store_helpers import completion_sample

from backflip.errors import NotFoundError, SettingsError, WorkspaceError
from backflip.records import Dialogue, Message, Prompt
from backflip.workspace import Generation, ModelRecord, Workspace, forget_user
from backflip.workspace.services.generations import MOST_LOST

HOSTILE = "nul \x00, half a surrogate \ud800, 'Zoë' 🙂"
"""What a model may write; what people write is whole."""
KEPT = "nul \N{REPLACEMENT CHARACTER}, half a surrogate ?, 'Zoë' 🙂"
SAID = "bell \x07, bidi \u202e, 'Zoë' 🙂"
Ask = Callable[..., str]


class Clock:
    """A clock that is set by hand."""

    time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock(workspace: Workspace) -> Clock:
    workspace.generations.clock = Clock()
    return workspace.generations.clock


@pytest.fixture
def ask(workspace: Workspace) -> Ask:
    """Asks for a reply of `model-1` or another, as Mia."""
    user = workspace.people.add("mia").id
    for name in ("model-1", "model-2"):
        record = ModelRecord(id=name, name=name, stage="sft", path=f"models/{name}")
        workspace.models.register(record)

    def ask(model: str = "model-1", text: str = "Hello?", **values: Any) -> str:
        given = {"seed": 0, "settings": {}, **values}
        settings = given.pop("settings")
        return workspace.generations.ask(
            user, "playground", model, Prompt.from_text(text), settings, **given
        )

    return ask


def ids(taken: list[Generation]) -> list[str]:
    return [each.id for each in taken]


def state(workspace: Workspace, name: str) -> tuple[str, str]:
    found = workspace.generations.get(name)
    return found.state, found.text


def test_what_is_asked_for_is_kept_whole(workspace: Workspace) -> None:
    user = workspace.people.add("mia").id
    project = workspace.projects.create("Kindness").id
    workspace.projects.set_role(project, user, "annotator")
    workspace.models.register(ModelRecord(id="model-1", name="m", stage="sft", path="models/m"))
    turns = (Message(role="user", content=SAID), Message(role="assistant", content="Hm."))
    prompt = Prompt(content=Dialogue(messages=turns), source="chat", split="heldout")
    settings = {"temperature": 0, "max_tokens": 7, "stop": ["\n", SAID], "batch_size": 3}
    asked = [
        workspace.generations.ask(
            user, "chat", "model-1", prompt, settings, seed=2**63 - 1, index=5, project=project
        )
        for _ in range(2)
    ]
    assert len(set(asked)) == 2
    found = workspace.generations.get(asked[1])
    assert (found.user, found.project, found.purpose) == (user, project, "chat")
    assert (found.model, found.prompt, found.seed, found.index) == ("model-1", prompt, 2**63 - 1, 5)
    # Everything that a reply depends on stands there, and nothing else.
    assert found.settings == {
        "temperature": 0.0,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "max_tokens": 7,
        "max_prompt_tokens": 512,
        "stop": ["\n", SAID],
    }
    assert (found.state, found.text, found.sample_id, found.error) == ("waiting", "", None, None)
    many = workspace.generations.get_many([asked[1], "nobody", asked[0]])
    assert list(many) == [asked[1], asked[0]]
    assert many[asked[1]] == found
    with pytest.raises(NotFoundError, match="no generation 'nobody'"):
        workspace.generations.get("nobody")


def test_what_cannot_be_drawn_is_refused_at_once(workspace: Workspace, ask: Ask) -> None:
    user = workspace.people.add("bob").id
    with pytest.raises(NotFoundError, match="no model 'model-9'"):
        ask("model-9")
    with pytest.raises(NotFoundError, match="no project 'nowhere'"):
        ask(project="nowhere")
    with pytest.raises(SettingsError, match="temperature"):
        ask(settings={"temperature": -1})
    with pytest.raises(SettingsError, match="did you mean"):
        ask(settings={"temprature": 1})
    for wrong in ({"seed": -1}, {"seed": 2**63}, {"index": -1}, {"index": 2**31}):
        with pytest.raises(WorkspaceError, match="out of range"):
            ask(**wrong)
    situation = Prompt(content={"type": "situation", "environment": "Point", "seed": 1})
    generations = workspace.generations
    with pytest.raises(WorkspaceError, match="is a situation"):
        generations.ask(user, "playground", "model-1", situation, {}, seed=0)
    with pytest.raises(NotFoundError, match="no user 'user-x'"):
        generations.ask("user-x", "playground", "model-1", Prompt.from_text("a"), {}, seed=0)
    assert generations.take("worker-1", 9) == []


def test_the_oldest_goes_first_with_what_can_be_drawn_with_it(
    workspace: Workspace, ask: Ask
) -> None:
    cool = {"settings": {"temperature": 0.5}}
    first, other, second, cooler = ask(), ask("model-2"), ask(seed=9), ask(**cool)
    third, fourth = ask(text="Other."), ask()
    take = workspace.generations.take
    taken = take("worker-1", 3)
    assert ids(taken) == [first, second, third]
    assert {each.state for each in taken} == {"running"}
    assert ids(take("worker-2", 3)) == [other]
    assert ids(take("worker-3", 3)) == [cooler]
    assert ids(take("worker-4", 3)) == [fourth]
    assert take("worker-5", 3) == []


def test_what_is_taken_beside_others_goes_with_them_and_jumps_no_queue(
    workspace: Workspace, ask: Ask
) -> None:
    first = ask()
    take = workspace.generations.take
    (at,) = take("worker-1", 3)
    assert at.id == first
    fit, more, others, late = ask(seed=1), ask(seed=2), ask("model-2"), ask(seed=3)
    assert ids(take("worker-1", 1, beside=at)) == [fit]
    assert ids(take("worker-1", 3, beside=at)) == [more]
    assert take("worker-1", 3, beside=at) == []
    assert ids(take("worker-2", 3)) == [others]
    assert ids(take("worker-1", 3, beside=at)) == [late]
    # What it held from the start is still its own.
    assert state(workspace, first) == ("running", "")


def test_claims_of_several_threads_are_never_doubled(workspace: Workspace, ask: Ask) -> None:
    asked = [ask(seed=n) for n in range(40)]
    taken: list[list[str]] = [[] for _ in range(5)]
    together = threading.Barrier(5)

    def work(number: int) -> None:
        together.wait()
        while found := workspace.generations.take(f"worker-{number}", 3):
            taken[number] += ids(found)
            for each in found:
                assert workspace.generations.fail(f"worker-{number}", each.id, "why")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for mine in taken for name in mine) == sorted(asked)
    assert all(mine == sorted(mine, key=asked.index) for mine in taken)


def test_claims_of_several_processes_are_never_doubled(
    workspace: Workspace, ask: Ask, run_worker: Callable[..., "Popen[str]"]
) -> None:
    asked = [ask(seed=n) for n in range(40)]
    workers = [run_worker("claim_worker", str(workspace.root), f"worker-{n}") for n in range(3)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == '"ready"\n', worker.communicate()[1]
    told = [worker.communicate("go\n", timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    claimed = [name for lines in told for name in map(json.loads, lines.splitlines())]
    assert sorted(claimed) == sorted(asked)
    assert all(state(workspace, name)[0] == "failed" for name in asked)


def test_text_grows_and_never_goes_back(workspace: Workspace, ask: Ask) -> None:
    name = ask()
    write = workspace.generations.write
    assert write("worker-1", {name: "early"}) == set()
    workspace.generations.take("worker-1", 1)
    for text, shown in (("It", "It"), ("It po", "It po"), ("It", "It po"), (HOSTILE, KEPT)):
        assert write("worker-1", {name: text}) == {name}
        assert state(workspace, name) == ("running", shown)
    assert write("worker-2", {name: HOSTILE + "!"}) == set()
    assert write("worker-1", {}) == set()
    assert state(workspace, name) == ("running", KEPT)


def test_a_finished_reply_has_the_text_of_its_sample(workspace: Workspace, ask: Ask) -> None:
    sample = completion_sample(3)
    name = ask()
    generations = workspace.generations
    generations.take("worker-1", 1)
    generations.write("worker-1", {name: "a text that is longer than the sample's"})
    assert generations.finish("worker-2", {name: sample}) == set()
    assert state(workspace, name)[0] == "running"
    assert workspace.samples.get([sample.id]) == workspace.prompts.get([sample.prompt_id]) == {}
    assert generations.finish("worker-1", {name: sample, "another": sample}) == {name}
    assert list(workspace.samples.get([sample.id])) == [sample.id]
    found = generations.get(name)
    assert (found.state, found.text, found.sample_id) == ("done", "reply 3", sample.id)
    assert found.ended
    assert not generations.fail("worker-1", name, "late")
    assert not generations.cancel(name)
    assert generations.get(name) == found


def test_a_cancelled_reply_stays_cancelled(workspace: Workspace, ask: Ask) -> None:
    sample = completion_sample(1)
    generations = workspace.generations
    waiting, running = ask(), ask(seed=1)
    assert generations.cancel(waiting)
    assert ids(generations.take("worker-1", 5)) == [running]
    assert generations.write("worker-1", {running: "It"}) == {running}
    assert generations.cancel(running)
    assert not generations.cancel(running)
    assert generations.write("worker-1", {running: "It pours"}) == set()
    assert generations.finish("worker-1", {running: sample}) == set()
    assert workspace.samples.get([sample.id]) == {}
    assert not generations.fail("worker-1", running, "late")
    assert state(workspace, running) == ("cancelled", "It")
    assert generations.take("worker-1", 5) == []
    assert not generations.cancel("nobody")


def test_a_failed_reply_says_why(workspace: Workspace, ask: Ask) -> None:
    name = ask()
    generations = workspace.generations
    generations.take("worker-1", 1)
    assert not generations.fail("worker-2", name, "not mine")
    assert generations.fail("worker-1", name, HOSTILE)
    assert generations.get(name).error == KEPT
    assert state(workspace, name)[0] == "failed"


def test_a_dead_workers_requests_are_taken_again(
    workspace: Workspace, ask: Ask, clock: Clock
) -> None:
    generations = workspace.generations
    first, second = ask(), ask(seed=1)
    assert ids(generations.take("worker-1", 1)) == [first]
    generations.write("worker-1", {first: "It po"})
    clock.time += generations.alive_seconds - 1
    generations.note_worker("worker-1")
    clock.time += generations.alive_seconds - 1
    assert ids(generations.take("worker-2", 1)) == [second]
    clock.time += 2
    (again,) = generations.take("worker-2", 5, beside=generations.get(second))
    assert (again.id, again.text, again.worker) == (first, "It po", "worker-2")
    # The first one was only asleep: what it says now counts no more, nor does it get it back.
    assert generations.write("worker-1", {first: "It pours"}) == set()
    assert not generations.fail("worker-1", first, "late")
    assert generations.take("worker-1", 5) == []
    assert generations.write("worker-2", {first: "It", second: "A"}) == {first, second}
    assert state(workspace, first) == ("running", "It po")


def test_what_kills_workers_is_not_tried_for_ever(
    workspace: Workspace, ask: Ask, clock: Clock
) -> None:
    generations = workspace.generations
    name = ask()
    for number in range(MOST_LOST):
        assert ids(generations.take(f"worker-{number}", 1)) == [name]
        clock.time += 1000
    assert generations.take("worker-9", 1) == []
    found = generations.get(name)
    assert found.state == "failed"
    assert found.error == "3 workers ended while they drew this reply"


def test_a_worker_that_ends_gives_back_what_it_holds(
    workspace: Workspace, ask: Ask, clock: Clock
) -> None:
    generations = workspace.generations
    first, second = ask(), ask("model-2")
    for _ in range(MOST_LOST + 2):  # such an end is nobody's fault
        assert ids(generations.take("worker-1", 1)) == [first]
        generations.end_worker("worker-1")
        assert state(workspace, first) == ("waiting", "")
    assert ids(generations.take("worker-2", 1)) == [first]
    generations.end_worker("worker-1")
    assert state(workspace, first)[0] == "running"
    # One that lost its way among its requests begins anew with all of them.
    assert ids(generations.take("worker-2", 1)) == [first]
    assert state(workspace, second)[0] == "waiting"


def test_whether_a_worker_is_alive(workspace: Workspace, clock: Clock) -> None:
    generations = workspace.generations
    assert not generations.worker_alive()
    generations.note_worker("worker-1")
    generations.note_worker("worker-1")
    with Workspace.open(workspace.root) as other:
        other.generations.clock = clock
        assert other.generations.worker_alive()
        clock.time += 10
        assert other.generations.worker_alive()
        assert not other.generations.worker_alive(10)
        clock.time += 10
        assert not other.generations.worker_alive()
    generations.note_worker("worker-2")
    assert generations.worker_alive()
    generations.end_worker("worker-2")
    assert not generations.worker_alive()
    assert generations.worker_alive(21)
    with pytest.raises(WorkspaceError, match="name"):
        generations.note_worker("")


def test_who_is_forgotten_waits_for_nothing(workspace: Workspace) -> None:
    workspace.people.add("boss", admin=True)
    user = workspace.people.add("mia").id
    workspace.models.register(ModelRecord(id="model-1", name="m", stage="sft", path="models/m"))
    prompt = Prompt.from_text("secret")
    name = workspace.generations.ask(user, "chat", "model-1", prompt, {}, seed=0)
    workspace.generations.take("worker-1", 1)
    forget_user(workspace, user, "keep", by="boss")
    assert workspace.generations.write("worker-1", {name: "It"}) == set()
    assert workspace.generations.get_many([name]) == {}


def test_a_page_needs_no_torch() -> None:
    code = (
        "import sys; from backflip.workspace import Workspace; "
        "print({'torch', 'transformers', 'tokenizers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
