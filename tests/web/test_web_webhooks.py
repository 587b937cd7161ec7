"""Webhooks: what happens in a project is told to an address, signed, once it is there to hear."""

import contextlib
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from web_helpers import PAIR, SignIn
from whole_page import WholePage

from backflip.config import ServerSettings
from backflip.errors import BackflipError, NotFoundError
from backflip.network import InsideError
from backflip.records.feedback import DAMAGED, Comparison
from backflip.web.background import Background
from backflip.web.webhooks import check_address, deliver
from backflip.workspace import Project, Workspace
from backflip.workspace.projects.webhooks import DELAYS

SERVER = ServerSettings(webhooks_inside=True)


class Ear:
    """An HTTP server that keeps what it is told, and answers as it is told to."""

    def __init__(self) -> None:
        self.heard: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        ear = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                ear.heard.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(ear.status)
                self.send_header("location", "http://127.0.0.1:1/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def ear() -> Iterator[Ear]:
    made = Ear()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.05,))
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def answer(workspace: Workspace, project: Project, choice: str = "a") -> str:
    task = workspace.queue.next("person", project=project.id)
    assert task is not None
    entry = Comparison(annotator="person", samples=task.sample_ids, choice=choice)
    return workspace.queue.answer(task.id, "person", entry)


@pytest.mark.parametrize("settings", [SERVER])
def test_an_answer_is_told_signed(
    workspace: Workspace, project: Project, sign_in: SignIn, ear: Ear
) -> None:
    lead = sign_in("lea", "lead", project)
    path = f"/api/projects/{project.id}/webhooks"
    made = lead.post(path, {"url": ear.url, "events": ["answer", "batch.done"]})
    assert made.status_code == 201, made.text
    secret = made.json()["secret"]
    workspace.queue.put("run-1", 1, [PAIR], project=project.id)
    entry = answer(workspace, project)
    assert deliver(workspace, inside=True) == 2
    assert deliver(workspace, inside=True) == 0
    told = [json.loads(body) for _, body in ear.heard]
    assert [each["event"] for each in told] == ["answer", "batch.done"]
    assert told[0]["entry"] == entry
    assert told[1] == told[1] | {"batch": "run-1/1", "answers": 1, "skipped": 0}
    for headers, body in ear.heard:
        moment, _, digest = headers["x-backflip-signature"].partition(",v1=")
        signed = moment.removeprefix("t=").encode() + b"." + body
        assert hmac.compare_digest(
            digest, hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
        )
    listed = lead.get(path).json()
    assert secret not in json.dumps(listed)
    assert [each["state"] for each in listed[0]["deliveries"]] == ["delivered", "delivered"]
    assert lead.send("DELETE", f"{path}/{listed[0]['id']}").status_code == 204
    assert lead.get(path).json() == []
    assert lead.send("DELETE", f"{path}/{listed[0]['id']}").status_code == 404


def test_what_is_not_kept_is_not_told(workspace: Workspace, project: Project) -> None:
    workspace.webhooks.add(project.id, "http://127.0.0.1:9/", ["answer"])
    workspace.queue.put("run-1", 1, [PAIR], project=project.id)
    task = workspace.queue.next("person", project=project.id)
    assert task is not None
    other = Comparison(annotator="person", samples=("sample-x", "sample-y"), choice="a")
    with pytest.raises(BackflipError):
        workspace.queue.answer(task.id, "person", other)
    assert workspace.webhooks.take() == []


@pytest.mark.parametrize("column", ["event", "body"])
def test_what_cannot_be_read_is_given_up_and_keeps_nothing_else_back(
    workspace: Workspace, project: Project, ear: Ear, column: str
) -> None:
    hook = workspace.webhooks.add(project.id, ear.url, ["answer", "batch.done"])
    workspace.queue.put("run-1", 1, [PAIR], project=project.id)
    answer(workspace, project)
    spoilt = sa.table("deliveries", sa.column("event"), sa.column("body"))
    with workspace.database.engine.begin() as connection:
        this = sa.update(spoilt).where(spoilt.c.event == "answer")
        connection.execute(this.values({column: "{"}))
    assert deliver(workspace, inside=True) == 1
    assert deliver(workspace, inside=True) == 0
    assert [json.loads(body)["event"] for _, body in ear.heard] == ["batch.done"]
    states = {each.told: each.state for each in workspace.webhooks.deliveries(hook.id)}
    assert states == {"HTTP 204": "delivered", DAMAGED: "failed"}


def test_a_failed_delivery_is_tried_again_later_and_then_given_up(
    workspace: Workspace, project: Project, ear: Ear
) -> None:
    hook = workspace.webhooks.add(project.id, ear.url, ["answer"])
    workspace.queue.put("run-1", 1, [PAIR], project=project.id)
    answer(workspace, project)
    now = workspace.webhooks.clock() + 1
    workspace.webhooks.clock = lambda: now
    ear.status = 302  # it is not followed
    for delay in (*DELAYS, None):
        assert deliver(workspace, inside=True) == 1
        assert deliver(workspace, inside=True) == 0
        now += (delay or 0) - 1
        assert deliver(workspace, inside=True) == 0
        now += 1
    (delivery,) = workspace.webhooks.deliveries(hook.id)
    assert (delivery.state, delivery.attempts, delivery.told) == ("failed", 6, "HTTP 302")
    assert len(ear.heard) == 6
    now += 1e6
    assert deliver(workspace, inside=True) == 0


def test_a_delivery_that_was_taken_and_lost_comes_again(
    workspace: Workspace, project: Project, ear: Ear
) -> None:
    workspace.webhooks.add(project.id, ear.url, ["answer"])
    workspace.queue.put("run-1", 1, [PAIR], project=project.id)
    answer(workspace, project)
    assert len(workspace.webhooks.take()) == 1  # and then the server dies
    assert workspace.webhooks.take() == []
    now = workspace.webhooks.clock() + 121
    workspace.webhooks.clock = lambda: now
    assert deliver(workspace, inside=True) == 1
    assert len(ear.heard) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost:8000/",
        "http://[::1]/",
        "http://10.1.2.3/",
        "http://169.254.169.254/latest",
        "http://192.168.0.1/",
        "http://0.0.0.0/",
        "http://[::ffff:127.0.0.1]/",
        "http://2130706433/",
    ],
)
def test_addresses_inside_are_refused_unless_allowed(url: str) -> None:
    with pytest.raises(InsideError, match="own network"):
        check_address(url, inside=False)
    check_address(url, inside=True)


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://example.org/", "javascript:alert(1)", "//x", "http://", "http://u:p@x/"),
        *("http://[x", "http://xn--/", "http://xn--a/", "http://a..b/", "http://x:0/"),
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    for inside in (True, False):
        with pytest.raises(BackflipError):
            check_address(url, inside=inside)


@given(st.text(st.sampled_from("xn-a.:/@[]%0é\u200b\ufb03\udc80 ?#\\1"), max_size=12))
def test_whatever_the_address_only_a_backflip_error_is_raised(tail: str) -> None:
    with contextlib.suppress(BackflipError):
        check_address(f"http://{tail}", inside=True)


def test_by_default_nothing_inside_is_called(
    workspace: Workspace, project: Project, sign_in: SignIn, ear: Ear
) -> None:
    lead = sign_in("lea", "lead", project)
    path = f"/api/projects/{project.id}/webhooks"
    response = lead.post(path, {"url": ear.url, "events": ["answer"]})
    assert response.status_code == 400
    assert "webhooks_inside" in response.json()["error"]["hint"]
    for body in ({"url": ear.url, "events": ["anything"]}, {"url": ear.url, "events": []}):
        assert lead.post(path, body).status_code == 422
    # One whose host has come to lead inside since it was made.
    workspace.webhooks.add(project.id, ear.url, ["answer"])
    workspace.queue.put("run-1", 1, [PAIR], project=project.id)
    answer(workspace, project)
    assert deliver(workspace, inside=False) == 1
    assert ear.heard == []
    with pytest.raises(NotFoundError):
        workspace.webhooks.add("nowhere", ear.url, ["answer"])


def test_a_server_says_that_it_is_up_and_delivers(
    workspace: Workspace, project: Project, ear: Ear
) -> None:
    workspace.webhooks.add(project.id, ear.url, ["answer"])
    workspace.queue.put("run-1", 1, [PAIR], project=project.id)
    answer(workspace, project)
    with Background(workspace, "http://127.0.0.1:8000", inside=True):
        while not ear.heard:
            pass
        assert workspace.servers.alive() == ["http://127.0.0.1:8000"]
    assert workspace.servers.alive() == []
    workspace.servers.note("http://127.0.0.1:8001")
    now = workspace.servers.clock() + 31
    workspace.servers.clock = lambda: now
    assert workspace.servers.alive() == []


def test_the_page_shows_what_became_of_the_deliveries(
    workspace: Workspace, project: Project, sign_in: SignIn, ear: Ear
) -> None:
    lead = sign_in("lea", "lead", project)
    path = f"/projects/{project.id}/webhooks"
    assert "The project has no webhook yet." in WholePage(lead.open(path)).text
    assert f'href="{path}"' in lead.open(f"/projects/{project.id}/data")
    hook = workspace.webhooks.add(project.id, ear.url, ["answer"])
    assert "told nothing yet" in WholePage(lead.open(path)).text
    workspace.queue.put("run-1", 1, [PAIR], overlap=2, project=project.id)
    answer(workspace, project)
    now = workspace.webhooks.clock() + 1
    workspace.webhooks.clock = lambda: now
    seen = {
        500: "The address refused it: HTTP 500. It is tried again later.",
        302: "sends on to another one, which is not followed: HTTP 302. It is tried",
        204: "an answer told 3 It was heard: HTTP 204.",
    }
    assert "an answer on its way 0 There is no outcome yet." in WholePage(lead.open(path)).text
    for ear.status, words in seen.items():
        assert deliver(workspace, inside=True) == 1
        now += 3600
        assert words in WholePage(lead.open(path)).text
    page = lead.open(path)
    assert hook.secret not in page
    forms = {form["data-send"]: form for form in WholePage(page).forms}
    assert forms["DELETE"]["data-path"] == f"/api{path}/{hook.id}"
    assert ear.url in forms["DELETE"]["data-confirm"]
    assert (forms["POST"]["data-path"], forms["POST"]["data-shows"]) == (f"/api{path}", "secret")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("ConnectError", "The address could not be reached."),
        ("ReadTimeout", "There was no answer in time."),
        ("RemoteProtocolError", "The connection broke: RemoteProtocolError."),
        ("the host 'x' is not known", "the host 'x' is not known"),
    ],
)
def test_a_fault_is_told_in_words(
    workspace: Workspace, project: Project, sign_in: SignIn, told: str, words: str
) -> None:
    lead = sign_in("lea", "lead", project)
    workspace.webhooks.add(project.id, "https://example.org/", ["answer"])
    workspace.queue.put("run-1", 1, [PAIR], project=project.id)
    answer(workspace, project)
    now = workspace.webhooks.clock()
    workspace.webhooks.clock = lambda: now
    for _ in (*DELAYS, None):
        now += 1e6
        ((_, delivery),) = workspace.webhooks.take()
        workspace.webhooks.settle(delivery.number, told, delivered=False)
    text = WholePage(lead.open(f"/projects/{project.id}/webhooks")).text
    assert "What it was told last given up Event" in text
    assert f"an answer given up 6 {words} " in text
