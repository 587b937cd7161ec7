"""Chats with two live replies a turn: asked by the page, drawn by a worker, kept as feedback."""

import json
from typing import Any

import pytest
import sqlalchemy as sa
from web_helpers import PAIR, SAMPLES, Browser, SignIn

from backflip.records import Completion, Sample
from backflip.records.feedback import Comparison, Implicit
from backflip.workspace import Generation, ModelRecord, Project, Workspace, forget_user
from backflip.workspace.database import schema

RULES = {"chat_model": "m-policy", "chat_temperature": 0.7, "chat_top_p": 0.9}


@pytest.fixture
def project(workspace: Workspace, project: Project) -> Project:
    """The project, with a chat."""
    workspace.samples.add(SAMPLES)
    for name, stage in (("policy", "policy"), ("judge", "reward")):
        workspace.models.register(
            ModelRecord(id=f"m-{name}", name=name, stage=stage, path=name)  # pyright: ignore
        )
    settings = project.settings.model_copy(update={**RULES, "chat_max_tokens": 9})
    return workspace.projects.change(project.id, settings=settings)


@pytest.fixture
def mia(project: Project, sign_in: SignIn) -> Browser:
    return sign_in("mia", "annotator", project)


def draw(
    workspace: Workspace, *, text: str | None = None, fail: bool = False, finish: Any = "stop"
) -> list[Generation]:
    """What the worker does, with texts of our own; the second reply fails where it shall."""
    taken = workspace.generations.take("worker", 8)
    for each in taken:
        if fail and each.index == 1:
            workspace.generations.fail("worker", each.id, "too long")
            continue
        said = text or f"{each.prompt.messages[-1].content} <b>{'AB'[each.index]}</b> {each.seed}"
        sample = Sample.of(
            each.prompt,
            Completion(text=said, finish=finish),
            model=each.model,
            seed=each.seed,
            index=each.index,
        )
        workspace.generations.finish("worker", {each.id: sample})
    return taken


class Page:
    """The chat page of somebody, as its script talks to the server."""

    def __init__(self, browser: Browser, project: Project):
        self.browser = browser
        self.root = f"/api/projects/{project.id}/chats"
        self.path = f"{self.root}/{self.told(browser.post(self.root), 201)['id']}"

    @staticmethod
    def told(response: Any, status: int = 200) -> Any:
        assert response.status_code == status, response.text
        return response.json()

    def do(self, what: str, status: int = 200, **body: Any) -> Any:
        """Send something of the chat as it is now, or as the test says."""
        if "turns" in body and "attempt" not in body:
            turns = self.get()["turns"]
            body["attempt"] = turns[-1]["attempt"] if turns else 0
        return self.told(self.browser.post(f"{self.path}/{what}", body), status)

    def get(self) -> Any:
        return self.told(self.browser.get(self.path))


def entries(workspace: Workspace) -> list[Any]:
    return workspace.journal.active()


def test_the_better_reply_goes_on(
    workspace: Workspace, project: Project, mia: Browser, sign_in: SignIn
) -> None:
    page = Page(mia, project)
    shown = page.do("say", text="Hello?", turns=0)
    assert [each["state"] for each in shown["turns"][0]["replies"]] == ["waiting", "waiting"]
    page.do("choose", 409, turns=1, choice="a", strength=2)  # nothing is done yet
    first, second = draw(workspace)
    assert (first.model, first.seed, first.purpose) == ("m-policy", second.seed, "chat")
    assert (first.index, second.index) == (0, 1)
    wanted = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 9}
    assert wanted.items() <= first.settings.items()
    page.do("choose", turns=1, choice="b", strength=2)
    (entry,) = entries(workspace)
    assert isinstance(entry, Comparison)
    assert (entry.choice, entry.strength, entry.shown) == ("b", 2, (0, 1))
    assert entry.annotator == mia.user.annotator
    samples = list(workspace.samples.get(entry.samples).values())
    assert [sample.index for sample in samples] == [0, 1]
    assert samples[0].prompt.source == "chat"
    page.do("say", text="Go on.", turns=1)
    third = draw(workspace)[0]
    told = [(turn.role, turn.content) for turn in third.prompt.messages]
    assert told == [("user", "Hello?"), ("assistant", samples[1].text), ("user", "Go on.")]
    (batch,) = workspace.batches.all(project.id)
    assert (batch.run, batch.name, batch.items, batch.wanted, batch.done) == (
        f"chat-{project.id}",
        "Chat",
        0,
        0,
        1,
    )
    assert workspace.batches.shares(project.id) == {mia.user.annotator: (1, 0)}
    lead = sign_in("lea", "lead", project)
    assert "said without being asked" in lead.open(f"/projects/{project.id}")
    assert "Said without being asked, answers: 1" in lead.open(f"/projects/{project.id}/questions")


def test_nothing_tells_which_model_it_is(
    workspace: Workspace, project: Project, mia: Browser
) -> None:
    page = Page(mia, project)
    page.do("say", text="Hello?", turns=0)
    draw(workspace)
    shown = page.do("choose", turns=1, go_on=0)
    html = mia.open(f"/projects/{project.id}/chat")
    with mia.client.stream("GET", f"{page.path}/events") as stream:
        events = [line for line in stream.iter_lines() if line.startswith("data:")]
    sample = entries(workspace)[0].sample
    for text in (json.dumps(shown), json.dumps(page.get()), html, *events):
        assert "m-policy" not in text
        assert sample not in text
    assert "&lt;b&gt;A&lt;/b&gt;" in shown["turns"][0]["replies"][0]["html"]
    assert f'data-last="{page.path.rsplit("/", 1)[1]}"' in html


def test_replies_are_followed_as_they_grow(
    workspace: Workspace, project: Project, mia: Browser
) -> None:
    page = Page(mia, project)
    page.do("say", text="Hello?", turns=0)
    draw(workspace, fail=True)
    with mia.client.stream("GET", f"{page.path}/events") as stream:
        lines = [line for line in stream.iter_lines() if line.startswith("data:")]
    shown = json.loads(lines[-1].removeprefix("data:"))
    assert [each["state"] for each in shown] == ["done", "failed"]
    assert shown[1]["error"] == "too long"
    assert shown == page.get()["turns"][0]["replies"]


@pytest.mark.parametrize(("finish", "cut_off"), [("stop", False), ("length", True)])
def test_a_reply_that_was_cut_off_says_so(
    workspace: Workspace, project: Project, mia: Browser, finish: str, cut_off: bool
) -> None:
    page = Page(mia, project)
    shown = page.do("say", text="Hello?", turns=0)
    assert [each["truncated"] for each in shown["turns"][0]["replies"]] == [False, False]
    draw(workspace, finish=finish)
    assert [each["truncated"] for each in page.get()["turns"][0]["replies"]] == [cut_off] * 2


def test_to_go_on_without_a_word_is_a_weak_sign(
    workspace: Workspace, project: Project, mia: Browser
) -> None:
    page = Page(mia, project)
    page.do("say", text="Hello?", turns=0)
    draw(workspace)
    page.do("choose", turns=1, go_on=1)
    (entry,) = entries(workspace)
    assert isinstance(entry, Implicit)
    assert (entry.signal, entry.shown) == ("kept", (1, 0))
    kept, other = workspace.samples.get([entry.sample, str(entry.over)]).values()
    assert (kept.index, other.index) == (1, 0)


def test_a_tie_goes_on_with_either(workspace: Workspace, project: Project, mia: Browser) -> None:
    gone_on = set()
    page = Page(mia, project)
    for number in range(20):
        page.do("say", text="Hello?", turns=number)
        draw(workspace)
        shown = page.do("choose", turns=number + 1, choice="tie")
        gone_on.add(shown["turns"][-1]["chosen"])
    assert gone_on == {0, 1}
    assert {entry.choice for entry in entries(workspace)} == {"tie"}


def test_other_replies_can_be_asked_for(
    workspace: Workspace, project: Project, mia: Browser
) -> None:
    page = Page(mia, project)
    page.do("say", text="Hello?", turns=0)
    draw(workspace)
    shown = page.do("again", turns=1)
    assert [each["state"] for each in shown["turns"][0]["replies"]] == ["waiting", "waiting"]
    assert [entry.signal for entry in entries(workspace)] == ["regenerated", "regenerated"]
    taken = draw(workspace)
    assert [turn.content for turn in taken[0].prompt.messages] == ["Hello?"]
    page.do("again", turns=1, both_bad=True)
    last = entries(workspace)[-1]
    assert isinstance(last, Comparison)
    assert last.choice == "both_bad"
    waiting = workspace.generations.take("worker", 8)
    page.do("again", turns=1)  # nothing is done: nothing is said of it
    assert len(entries(workspace)) == 3
    assert {workspace.generations.get(each.id).state for each in waiting} == {"cancelled"}


def test_a_copied_reply_counts_once(workspace: Workspace, project: Project, mia: Browser) -> None:
    page = Page(mia, project)
    page.do("say", text="Hello?", turns=0)
    page.do("copied", 409, turn=0, place=0)
    draw(workspace)
    for _ in range(2):
        page.do("copied", turn=0, place=0)
    page.do("copied", 404, turn=1, place=0)
    (entry,) = entries(workspace)
    assert (entry.signal, entry.over) == ("copied", None)
    assert workspace.batches.shares(project.id) == {mia.user.annotator: (1, 0)}


def test_where_one_reply_failed_the_other_goes_on(
    workspace: Workspace, project: Project, mia: Browser
) -> None:
    page = Page(mia, project)
    page.do("say", text="Hello?", turns=0)
    draw(workspace, fail=True)
    page.do("choose", 409, turns=1, choice="a", strength=1)
    page.do("choose", 409, turns=1, go_on=1)
    page.do("choose", turns=1, go_on=0)
    (entry,) = entries(workspace)
    assert (entry.signal, entry.over) == ("kept", None)


def test_of_two_equal_replies_nothing_is_said(
    workspace: Workspace, project: Project, mia: Browser
) -> None:
    page = Page(mia, project)
    page.do("say", text="Hello?", turns=0)
    draw(workspace, text="Hi.")
    page.do("choose", turns=1, choice="a", strength=3)
    assert entries(workspace) == []


def test_a_choice_can_be_taken_back(workspace: Workspace, project: Project, mia: Browser) -> None:
    page = Page(mia, project)
    page.do("undo", 409, turns=0)
    page.do("say", text="Hello?", turns=0)
    draw(workspace)
    for _ in range(2):  # the same choice again is a new entry
        page.do("choose", turns=1, choice="a", strength=1)
        assert len(entries(workspace)) == 1
        shown = page.do("undo", turns=1)
        assert shown["turns"][0]["chosen"] is None
        assert entries(workspace) == []
        assert workspace.batches.all(project.id)[0].done == 0
    page.do("choose", turns=1, choice="a", strength=1)
    page.do("say", text="Go on.", turns=1)
    page.do("undo", 409, turns=2)


def test_a_click_that_comes_twice_does_nothing(
    workspace: Workspace, project: Project, mia: Browser
) -> None:
    page = Page(mia, project)
    page.do("say", text="Hello?", turns=0)
    page.do("say", 409, text="Hello?", turns=0)
    page.do("say", 409, text="Hello?", turns=1)  # a choice is open
    assert len(draw(workspace)) == 2
    page.do("choose", turns=1, choice="a")
    page.do("choose", 409, turns=1, choice="a")
    page.do("again", 409, turns=1)
    assert len(entries(workspace)) == 1


def test_nothing_is_said_of_replies_that_a_page_does_not_show(
    workspace: Workspace, project: Project, mia: Browser
) -> None:
    """Two windows, or an answer of the server that was lost on the way."""
    page = Page(mia, project)
    page.do("say", text="Hello?", turns=0)
    draw(workspace)
    page.do("again", turns=1, attempt=0)
    draw(workspace)
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("choose", {"choice": "a", "strength": 3}),
        ("choose", {"go_on": 0}),
        ("again", {}),
        ("again", {"both_bad": True}),
    ]
    for what, body in bodies:
        page.do(what, 409, turns=1, attempt=0, **body)
    assert [entry.signal for entry in entries(workspace)] == ["regenerated"] * 2
    page.do("choose", turns=1, attempt=1, go_on=0)
    page.do("undo", turns=1, attempt=1)
    page.do("choose", 409, turns=1, attempt=1, go_on=0)
    page.do("choose", turns=1, attempt=2, go_on=1)
    assert [entry.signal for entry in entries(workspace)] == ["regenerated"] * 2 + ["kept"]


def test_what_is_taken_back_leaves_its_hour(
    workspace: Workspace, project: Project, mia: Browser
) -> None:
    page = Page(mia, project)
    page.do("say", text="Hello?", turns=0)
    draw(workspace)
    workspace.chats.clock = lambda: 3600.0 * 500_000 - 1
    page.do("choose", turns=1, go_on=0)
    workspace.chats.clock = lambda: 3600.0 * 500_000 + 1
    page.do("undo", turns=1)
    with workspace.database.read() as connection:
        hours = connection.execute(sa.select(schema.batch_hours)).all()
    assert [row.done for row in hours] == [0]


def test_chats_count_against_no_budget(
    workspace: Workspace, project: Project, mia: Browser
) -> None:
    rules = {"budget": 1, "budget_per_person": 1}
    settings = project.settings.model_copy(update=rules)
    workspace.projects.change(project.id, settings=settings)
    page = Page(mia, project)
    page.do("say", text="Hello?", turns=0)
    draw(workspace)
    page.do("choose", turns=1, go_on=0)
    workspace.queue.put("run-1", 1, [PAIR], project=project.id)
    told = mia.post(f"/api/projects/{project.id}/next").json()
    assert told["task"] is not None
    assert told["given"] == 0


def test_a_lead_may_end_all_chats_or_change_their_model(
    workspace: Workspace, project: Project, mia: Browser
) -> None:
    page = Page(mia, project)
    page.do("say", text="Hello?", turns=0)
    draw(workspace)
    other = ModelRecord(id="m-other", name="other", stage="policy", path="other")
    workspace.models.register(other)
    for model in (None, "m-other"):
        settings = project.settings.model_copy(update={"chat_model": model})
        workspace.projects.change(project.id, settings=settings)
        page.do("choose", 409, turns=1, go_on=0)
        page.do("again", 409, turns=1)
    workspace.projects.change(project.id, settings=project.settings, archived=True)
    page.do("choose", 409, turns=1, go_on=0)
    page.do("copied", 409, turn=0, place=0)
    assert entries(workspace) == []


def test_a_webhook_is_told_of_what_is_said(
    workspace: Workspace, project: Project, mia: Browser
) -> None:
    hook = workspace.webhooks.add(project.id, "https://example.org/", ["answer"])
    page = Page(mia, project)
    page.do("say", text="Hello?", turns=0)
    draw(workspace)
    page.do("choose", turns=1, go_on=0)
    (told,) = workspace.webhooks.deliveries(hook.id, limit=5)
    assert told.body["entry"] == entries(workspace)[0].id
    assert told.body["kind"] == "implicit"


def test_a_comparison_of_a_chat_can_be_settled(
    workspace: Workspace, project: Project, mia: Browser, sign_in: SignIn
) -> None:
    page = Page(mia, project)
    page.do("say", text="Hello?", turns=0)
    draw(workspace)
    page.do("choose", turns=1, choice="a", strength=1)
    samples = sorted(entries(workspace)[0].samples)
    lead = sign_in("lea", "lead", project)
    ruling = {"axis": "overall", "samples": samples, "choice": "tie", "withdraw": True}
    told = lead.post(f"/api/projects/{project.id}/adjudicate", ruling)
    assert told.json()["withdrawn"] == 1
    (entry,) = entries(workspace)
    assert entry.choice == "tie"


def test_an_ended_chat_stays_as_it_is(workspace: Workspace, project: Project, mia: Browser) -> None:
    page = Page(mia, project)
    page.do("say", text="Hello?", turns=0)
    waiting = workspace.generations.take("worker", 8)
    assert page.do("end")["state"] == "ended"
    assert {workspace.generations.get(each.id).state for each in waiting} == {"cancelled"}
    for what, body in (("again", {"turns": 1}), ("choose", {"turns": 1, "go_on": 0})):
        page.do(what, 409, **body)
    assert 'data-last=""' in mia.open(f"/projects/{project.id}/chat")


def test_chats_are_one_s_own(
    workspace: Workspace, project: Project, mia: Browser, sign_in: SignIn
) -> None:
    page = Page(mia, project)
    elsewhere = workspace.projects.create("Elsewhere")
    for browser, place in (
        (sign_in("leo", "lead", project), project),
        (sign_in("boss"), elsewhere),
    ):
        path = f"/api/projects/{place.id}/chats/{page.path.rsplit('/', 1)[1]}"
        assert browser.get(path).status_code == 404
        assert browser.get(f"{path}/events").status_code == 404
        assert browser.post(f"{path}/say", {"text": "Hi", "turns": 0}).status_code == 404
        assert browser.post(f"{path}/end").status_code == 404
    forget_user(workspace, mia.user.id, "keep", by="boss")
    assert workspace.chats.of(project.id, mia.user.id) == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choice": "a", "go_on": 1},
        {"choice": "tie", "strength": 1},
        {"go_on": 2},
        {"choice": "both_bad"},
    ],
)
def test_what_cannot_be_chosen_is_refused(
    workspace: Workspace, project: Project, mia: Browser, body: dict[str, Any]
) -> None:
    page = Page(mia, project)
    page.do("say", text="Hello?", turns=0)
    draw(workspace)
    page.do("choose", 422, turns=1, **body)
    assert entries(workspace) == []


def test_there_is_no_chat_without_a_model(
    workspace: Workspace, project: Project, mia: Browser, sign_in: SignIn
) -> None:
    lead = sign_in("lea", "lead", project)
    root = f"/api/projects/{project.id}"
    rules = project.settings.model_dump(mode="json")
    for model, status in (("m-judge", 422), ("nothing", 404), (None, 200)):
        changed = {**rules, "chat_model": model}
        assert lead.send("PUT", f"{root}/settings", changed).status_code == status
    assert mia.post(f"{root}/chats").status_code == 409
    assert "There is no chat" in mia.open(f"/projects/{project.id}/chat")
    assert "/chat" not in mia.open(f"/projects/{project.id}/label")
    workspace.projects.change(project.id, settings=project.settings)
    assert "/chat" in mia.open(f"/projects/{project.id}/label")
    assert "/chat" in mia.open("/")


def everything(workspace: Workspace) -> str:
    """All that the database holds."""
    with workspace.database.read() as connection:
        rows = [connection.execute(sa.select(t)).all() for t in schema.metadata.sorted_tables]
    return repr(rows)


def test_what_was_said_to_a_model_can_be_erased(
    workspace: Workspace, project: Project, mia: Browser, sign_in: SignIn
) -> None:
    noah = sign_in("noah", "annotator", project)
    for browser, text in ((mia, "My secret"), (mia, "Good morning"), (noah, "Good morning")):
        page = Page(browser, project)
        page.do("say", text=text, turns=0)
        draw(workspace, text="A reply.")
        page.do("choose", turns=1, go_on=0)
    assert "My secret" in everything(workspace)
    forgetting = {"answers": "erase"}
    told = sign_in("boss").post(f"/api/users/{mia.user.id}/forget", forgetting)
    assert told.status_code == 200, told.text
    left = everything(workspace)
    assert "My secret" not in left
    assert "Good morning" in left  # somebody else has said it too
    typed = sorted(prompt.text for prompt in workspace.prompts.all(source="chat"))
    assert typed == ["Good morning", "[erased]"]
    assert workspace.samples.get([sample.id for sample in workspace.samples.of_model("m-policy")])
