"""A server with a bit of everything in it, for the tests that try odd words and rows on it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi.testclient import TestClient
from web_helpers import SAMPLES, TASKS, Browser

from backflip.config import ServerSettings
from backflip.quality.report import measure_quality
from backflip.records.feedback import Critique, GoodBad
from backflip.records.plan import START
from backflip.web import create_app
from backflip.workspace import MAIN, ModelRecord, Workspace, erase

PAGES = (
    "/",
    "/account",
    *(
        f"/projects/{MAIN}{page}"
        for page in (
            "",
            "/answers",
            "/chat",
            "/data",
            "/label",
            "/models",
            "/people",
            "/playground",
            "/quality",
            "/questions",
            "/rules",
            "/rules/versions/1",
            "/webhooks",
            "/models/model-1",
        )
    ),
    "/admin/people",
    "/api/users",
    "/api/invites",
    "/api/projects",
    *(
        f"/api/projects/{MAIN}{route}"
        for route in (
            "",
            "/batches",
            "/entries",
            "/guidelines",
            "/invites",
            "/members",
            "/models",
            "/overview",
            "/quality",
            "/webhooks",
        )
    ),
)
"""Pages, and what programs ask, but for streams that never end."""


@contextmanager
def busy_server(template: Path, folder: Path) -> Iterator[tuple[Workspace, Browser]]:
    """A workspace on SQLite, and an administrator's browser. The person has answered a question,
    drafts another, has a chat, a token and a webhook; all in `MAIN`.
    """
    shutil.copytree(template, folder)
    with Workspace.open(folder) as workspace:
        workspace.samples.add(SAMPLES)
        asked = [TASKS["critique"], TASKS["rating"], TASKS["correction"]]
        workspace.queue.put("run-1", 1, asked, overlap=2)
        model = ModelRecord(id="model-1", name="m", stage="sft", path="models/m", run="run-1")
        workspace.models.register(model)
        user, queue = workspace.people.add("boss", admin=True), workspace.queue
        me = user.annotator
        workspace.projects.add_guideline(MAIN, "Be fair.", me)
        workspace.people.add_token(user.id, "mine")
        workspace.webhooks.add(MAIN, "https://example.org/told", ["answer"])
        first = queue.next(me)
        said = Critique(annotator=me, sample=first.sample_ids[0], text="Hm.")
        queue.answer(first.id, me, said)
        queue.save_draft(queue.next(me).id, me, {"form": {"level": 3}})
        workspace.chats.start(MAIN, user.id, "model-1")
        settle(workspace, user.id)
        app = create_app(workspace, ServerSettings(webhooks_inside=True))
        client = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
        key, session = workspace.people.start_session(user.id, 3600)
        client.cookies.set("backflip", app.state.context.signer.sign(key))
        yield workspace, Browser(client, user, session.csrf)


def settle(workspace: Workspace, lead: str) -> None:
    """What else a project comes to have: members, invitations, a run, a report, a reply."""
    member = workspace.people.add("mia")
    workspace.projects.set_role(MAIN, member.id, "annotator")
    for project in (MAIN, None):
        workspace.people.invite(project, "annotator", author=lead)
    workspace.people.note_failure("mia")
    workspace.runs.start("run-1", "run", {}, "0")
    workspace.stages.begin("run-1", START.name)
    workspace.metrics.log("run-1", "round-1/policy", 1, {"loss": 1.0})
    workspace.scores.keep("run-1", "overall", {SAMPLES[0].id: 1.0}, [])
    workspace.reports.keep(MAIN, measure_quality(workspace, MAIN))
    workspace.servers.note("http://127.0.0.1:8000")
    workspace.generations.note_worker("worker-1")
    workspace.generations.ask(
        lead, "playground", "model-1", SAMPLES[0].prompt, {}, seed=0, project=MAIN
    )
    (entry,) = workspace.journal.active()
    workspace.snapshots.take([entry.id])
    said = GoodBad(annotator=member.annotator, sample=SAMPLES[0].id, good=True, reason="Hm.")
    workspace.journal.add([said])
    erase(workspace, member.annotator, by="boss")


def faults(browser: Browser) -> dict[str, int]:
    """The pages that do not answer 200."""
    found = {path: browser.get(path).status_code for path in PAGES}
    return {path: status for path, status in found.items() if status != 200}


def next_task(browser: Browser) -> dict:
    """The question that the person holds, as the page gets it."""
    return browser.post(f"/api/projects/{MAIN}/next", {"besides": []}).json()["task"]
