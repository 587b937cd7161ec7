"""How far a project is: the numbers, and what is sent when they change."""

import json
import logging
import signal
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from lead_helpers import PAIRS, answer_next
from sse_starlette.sse import AppStatus
from web_helpers import Browser, SignIn

from backflip.config import ServerSettings
from backflip.web import create_app
from backflip.web.routes import projects as projects_routes
from backflip.workspace import Project, Workspace, forget_user


@pytest.fixture
def lead(sign_in: SignIn, project: Project) -> Browser:
    return sign_in("lea", "lead", project)


def test_the_overview_counts_what_people_did(
    workspace: Workspace, lead: Browser, sign_in: SignIn, project: Project
) -> None:
    settings = project.settings.model_copy(update={"budget": 50})
    workspace.projects.change(project.id, settings=settings)
    workspace.queue.put("run-1", 1, PAIRS, overlap=2, project=project.id, name="First")
    workspace.queue.put("checks", 0, PAIRS[:1], project=project.id, purpose="checks")
    mia, bob = (sign_in(name, "annotator", project).user for name in ("mia", "bob"))
    assert mia is not None
    assert bob is not None
    noon = 1_800_000_000 // 86400 * 86400 + 43200
    for clock in (noon - 25 * 3600, noon - 3600, noon - 0.5):
        workspace.queue.clock = lambda clock=clock: clock
        answer_next(workspace, project, mia.annotator)
    workspace.queue.clock = lambda: float(noon)
    answer_next(workspace, project, bob.annotator)
    skipped = workspace.queue.next(bob.annotator, project=project.id)
    workspace.queue.skip(skipped.id, bob.annotator)  # pyright: ignore
    workspace.queue.next(mia.annotator, project=project.id)
    forget_user(workspace, bob.id, "keep", by="boss")
    workspace.queue.clock = lambda: noon + 60.0

    told = lead.get(f"/api/projects/{project.id}/overview").json()
    hours = told.pop("hours")
    # 24 hours, the present one at the end: mia's first answer is too old.
    assert [hour["answers"] for hour in hours] == [0] * 22 + [2, 1]
    assert hours[-1]["start"] == "2027-01-15T12:00:00Z"
    batches = {batch["name"]: batch for batch in told.pop("batches")}
    first, checks = batches["First"], batches["checks, round 0"]
    counts = {"items": 4, "wanted": 8, "done": 4, "skipped": 1, "held": 1, "left": 2}
    assert {name: first[name] for name in counts} == counts
    counts = {"items": 1, "wanted": 0, "done": 0, "skipped": 0, "held": 0, "left": 0}
    assert {name: checks[name] for name in counts} == counts
    assert told.pop("people") == [
        {"name": "mia", "gone": False, "done": 3, "skipped": 0, "at_work": True},
        {"name": bob.annotator, "gone": True, "done": 1, "skipped": 1, "at_work": False},
    ]
    assert told.pop("accuracies") == []
    assert told == {"wanted": 8, "done": 4, "skipped": 1, "held": 1, "budget": 50, "used": 5}
    # Without a script the page says the same.
    html = lead.open(f"/projects/{project.id}")
    for text in ("First", "mia", bob.annotator, "of 8", "of 50", "pseudonym"):
        assert text in html, text
    assert mia.annotator not in html


def test_an_hour_that_ended_long_ago_is_another_one(
    workspace: Workspace, lead: Browser, project: Project
) -> None:
    """A lease that ran out is not held, and what is undone was not given."""
    workspace.queue.put("run-1", 1, PAIRS, project=project.id)
    workspace.queue.clock = lambda: 1_800_000_000.0
    answer_next(workspace, project, "mia")
    workspace.queue.undo("mia", project=project.id)
    told = lead.get(f"/api/projects/{project.id}/overview").json()
    assert (told["held"], told["done"], sum(h["answers"] for h in told["hours"])) == (1, 0, 0)
    workspace.queue.clock = lambda: 1_800_000_000.0 + workspace.queue.lease_seconds
    assert lead.get(f"/api/projects/{project.id}/overview").json()["held"] == 0


@pytest.fixture
def real_server(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, uvicorn.Server]]:
    """A server with a socket: the test client waits for the end of a response."""
    monkeypatch.setattr(projects_routes, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(AppStatus, "should_exit", False)
    config = uvicorn.Config(
        create_app(workspace, ServerSettings()),
        port=0,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=60,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}", server
    server.should_exit = True
    thread.join()


def events_of(lines: Iterator[str]) -> Iterator[Any]:
    for line in lines:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def test_what_has_changed_is_sent_until_the_server_stops(
    workspace: Workspace,
    project: Project,
    real_server: tuple[str, uvicorn.Server],
    caplog: pytest.LogCaptureFixture,
) -> None:
    address, server = real_server
    lea = workspace.people.add("lea")
    workspace.projects.set_role(project.id, lea.id, "lead")
    key = workspace.people.add_token(lea.id, "test")
    path = f"{address}/api/projects/{project.id}/events"
    headers = {"authorization": f"Bearer {key}"}
    workspace.queue.put("run-1", 1, PAIRS, project=project.id)
    with caplog.at_level(logging.WARNING), httpx.stream("GET", path, headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        told = events_of(response.iter_lines())
        assert next(told)["done"] == 0
        answer_next(workspace, project, "mia")
        seen = [event := next(e for e in told if e["done"] == 1)]
        server.handle_exit(signal.SIGTERM, None)
        seen += told  # it ends as a response should; at most a new hour has begun meanwhile
        assert seen.count(event) == 1
        assert len(seen) <= 2
    assert caplog.records == []  # no request had to be cut off


def test_who_leads_no_more_is_sent_no_more(
    workspace: Workspace, project: Project, real_server: tuple[str, uvicorn.Server]
) -> None:
    lea = workspace.people.add("lea")
    workspace.projects.set_role(project.id, lea.id, "lead")
    key = workspace.people.add_token(lea.id, "test")
    path = f"{real_server[0]}/api/projects/{project.id}/events"
    headers = {"authorization": f"Bearer {key}"}
    with httpx.stream("GET", path, headers=headers) as response:
        told = events_of(response.iter_lines())
        next(told)
        workspace.projects.set_role(project.id, lea.id, "annotator")
        assert list(told) == []
    assert httpx.get(path, headers=headers).status_code == 403
    assert httpx.get(path).status_code == 401


def test_it_shows_how_well_a_reward_model_foresees_answers(
    workspace: Workspace, lead: Browser, project: Project
) -> None:
    address = f"/api/projects/{project.id}/overview"
    workspace.runs.start("run-1", "run-1", {}, "1.0")
    for number in (1, 2):
        name = f"Round {number}"
        workspace.queue.put("run-1", number, PAIRS, project=project.id, name=name)
    assert lead.get(address).json()["accuracies"] == []
    for stage, step, accuracy, count in (
        ("round-1/feedback/overall", 40, 0.5, 6.0),
        ("round-1/feedback/overall", 80, 0.6, 30.0),
        ("round-1/reward/overall", 90, 0.7, 30.0),
        ("round-2/feedback/safe", 120, 0.8, 40.0),
        ("round-12/feedback/safe", 900, 0.1, 40.0),
    ):
        measured = {"heldout_accuracy": accuracy, "heldout_answers": count, "loss": 1.0}
        workspace.metrics.log("run-1", stage, step, measured)
    found = lead.get(address).json()["accuracies"]
    shown = [(row["name"], row["axis"], row["answers"], row["value"]) for row in found]
    assert shown == [
        ("Round 2", "safe", 120, 0.8),
        ("Round 1", "overall", 90, 0.7),
        ("Round 1", "overall", 80, 0.6),
        ("Round 1", "overall", 40, 0.5),
    ]
    assert [row["enough"] for row in found] == [True, True, True, False]
    # Wilson's interval of 21 of 30.
    assert (round(found[1]["low"], 4), round(found[1]["high"], 4)) == (0.5212, 0.8334)
    html = lead.open(f"/projects/{project.id}")
    assert "52\N{EN DASH}83" in html
    assert html.count('data-is="few" hidden') == 3
    assert html.count('data-is="share" hidden') == 2  # the row of six, and the template of rows


def test_rows_of_two_runs_and_axes_are_told_apart(
    workspace: Workspace, lead: Browser, project: Project
) -> None:
    for run in ("run-1", "run-2"):
        workspace.runs.start(run, run, {}, "1.0")
        workspace.queue.put(run, 1, PAIRS, project=project.id, name="tiny, round 1")
        for axis in ("helpful", "safe"):
            for number in (40, 80, 120, 160):
                measured = {"heldout_accuracy": 0.5, "heldout_answers": 30.0}
                workspace.metrics.log(run, f"round-1/feedback/{axis}", number, measured)
    found = lead.get(f"/api/projects/{project.id}/overview").json()["accuracies"]
    assert len({row["key"] for row in found}) == len(found) == 12
    # The newest of each axis come first, and none is left out.
    assert [row["answers"] for row in found] == [160, 160, 120, 120, 80, 80, 40, 40] + [160] * 2 + [
        120
    ] * 2
    assert {row["axis"] for row in found[:2]} == {"helpful", "safe"}
