"""`backflip serve` as a process: it starts, says where it is, loads no torch, and ends cleanly."""

import json
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from web_helpers import PAIR, SAMPLES

from backflip.config import ServerSettings
from backflip.errors import BackflipError
from backflip.web.serve import address_of, serve
from backflip.workspace import MAIN, Workspace

ROOT = Path(__file__).parents[2]
START = "from backflip.cli import main; main()"


class Process:
    """A server as its user starts it."""

    def __init__(self, *arguments: str):
        command = [sys.executable, "-c", START, "serve", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []

    def line(self, having: str) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if having in line:
                return line
        raise AssertionError("".join(self.lines))

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        _, rest = self.process.communicate(timeout=60)
        self.lines.append(rest)
        return self.process.returncode


@pytest.fixture
def started() -> Iterator[Any]:
    made: list[Process] = []

    def start(*arguments: str) -> Process:
        made.append(Process(*arguments))
        return made[-1]

    yield start
    for each in made:
        if each.process.poll() is None:
            each.process.kill()
            each.process.communicate()


def test_a_server_from_the_first_start_to_the_end(tmp_path: Path, started: Any) -> None:
    folder = tmp_path / "work"
    server = started(str(folder), "port=0", "--new")
    address = server.line("Serving").split(" at ")[1].strip()
    key = server.line("administrator").rsplit("/join/", 1)[1].strip()
    with httpx.Client(base_url=address) as client:
        assert client.get("/healthz").json()["status"] == "ok"
        csrf = re.search(r'name="csrf" value="([^"]+)"', client.get(f"/join/{key}").text)
        assert csrf is not None
        fields = {"csrf": csrf[1], "name": "boss", "password": "a few plain words"}
        assert client.post(f"/join/{key}", data=fields).status_code == 303
        assert client.get("/account").status_code == 200
    with Workspace.open(folder) as workspace:
        assert workspace.people.named("boss").admin  # pyright: ignore
        while not workspace.servers.alive():
            time.sleep(0.05)
        assert workspace.servers.alive() == [address]
        assert server.end() == 128 + signal.SIGTERM
        assert workspace.servers.alive() == []
    requests = [
        json.loads(line) for part in server.lines for line in part.splitlines() if line[:1] == "{"
    ]
    assert {each["route"] for each in requests} >= {"/healthz", "/join/{key}", "/account"}
    log = "".join(server.lines)
    for secret in (key, "boss", "plain words", csrf[1]):
        assert secret not in log.partition("\n{")[2], "a secret or a name is in the log"
    again = started(str(folder), "port=0")
    again.line("Serving")
    assert again.end(signal.SIGINT) == 130
    assert "Stopped" in again.lines[-1]
    assert "administrator" not in "".join(again.lines)


def test_links_of_two_servers_make_one_administrator(tmp_path: Path, started: Any) -> None:
    folder = str(tmp_path / "work")
    places = []
    for new in (["--new"], []):
        server = started(folder, "port=0", "setup_hours=0.5", *new)
        server.line("Serving")
        line = server.line("administrator")
        assert "within 0.5 hours" in line
        places.append(line.rsplit(" at ", 1)[1].strip())
    fields = {"name": "boss", "password": "a few plain words"}
    with httpx.Client() as client:
        csrf = re.search(r'name="csrf" value="([^"]+)"', client.get(places[1]).text)
        assert csrf is not None
        assert client.post(places[1], data=fields | {"csrf": csrf[1]}).status_code == 303
    for place in places:
        assert httpx.get(place).status_code == 404


def test_the_web_process_never_imports_torch(tmp_path: Path) -> None:
    """Not even for a page with a task on it, nor an answer."""
    with Workspace.create(tmp_path / "work") as workspace:
        workspace.samples.add(SAMPLES)
        workspace.queue.put("run-1", 1, [PAIR])
        user = workspace.people.add("bot", admin=True)
        key = workspace.people.add_token(user.id, "test")
    program = f"""
import sys
from fastapi.testclient import TestClient
from backflip.workspace import Workspace
from backflip.web import create_app
import backflip.web.serve
client = TestClient(create_app(Workspace.open({str(tmp_path / "work")!r})))
client.headers["authorization"] = "Bearer {key}"
assert client.get("/projects/{MAIN}/label").status_code == 200
task = client.post("/api/projects/{MAIN}/next", json={{}}).json()["task"]
answer = {{"answer": {{"kind": "comparison", "choice": "tie"}}}}
assert client.post(f"/api/tasks/{{task['id']}}/answer", json=answer).status_code == 200
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    modules = set(done.stdout.split())
    assert "backflip.web.app" in modules
    assert not {"torch", "transformers", "peft", "matplotlib", "datasets"} & modules


def test_an_address_that_is_taken_is_told(tmp_path: Path, started: Any) -> None:
    with Workspace.create(tmp_path / "work") as workspace:
        server = started(str(tmp_path / "work"), "port=0")
        port = int(server.line("Serving").strip().rsplit(":", 1)[1])
        with pytest.raises(BackflipError, match=f"cannot listen on port {port}") as caught:
            serve(workspace, ServerSettings(port=port), print)
    assert "port=0" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"host": "0.0.0.0"}, "http://127.0.0.1:8000"),  # noqa: S104
        ({"host": "::1"}, "http://[::1]:8000"),
        ({"host": "192.0.2.7", "port": 81}, "http://192.0.2.7:8000"),
        ({"public_url": "https://label.example.org/"}, "https://label.example.org"),
    ],
)
def test_the_address_is_one_that_people_can_use(settings: dict[str, Any], address: str) -> None:
    assert address_of(ServerSettings.parse(settings), 8000) == address


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", START, "serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_mistakes_are_told_in_words(tmp_path: Path) -> None:
    Workspace.create(tmp_path / "work").close()
    file = tmp_path / "server.toml"
    file.write_text("prt = 1\n")
    for arguments, words in (
        ([str(tmp_path / "none")], "no workspace here"),
        ([str(tmp_path / "work"), "prt=8001"], "port"),
        ([str(tmp_path / "work"), "--settings", str(file)], "port"),
        ([str(tmp_path / "work"), "port=70000"], "65535"),
        ([str(tmp_path / "work"), "public_url=label.example.org"], "https://host"),
        ([str(tmp_path / "work"), "login_attempts=0"], "at least 1"),
    ):
        done = run(*arguments)
        assert done.returncode == 1, arguments
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "none").exists()


COMPOSE_KEYS = {
    "build",
    "command",
    "depends_on",
    "environment",
    "healthcheck",
    "image",
    "ports",
    "restart",
    "volumes",
}


def test_the_compose_file_says_what_the_program_takes() -> None:
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    compose = yaml.safe_load(text)
    assert set(compose) == {"services", "volumes"}
    services = compose["services"]
    for service in services.values():
        assert set(service) <= COMPOSE_KEYS
        assert set(service.get("depends_on", {})) <= set(services)
        for needed in service.get("depends_on", {}):
            assert services[needed]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        for mount in service["volumes"]:
            assert mount.partition(":")[0] in compose["volumes"]
    command, *arguments = services["server"]["command"]
    assert command == "serve"
    assert arguments[:2] == ["/workspace", "--new"]
    settings = dict(part.split("=", 1) for part in arguments[4:])
    assert ServerSettings.parse(settings).host == "0.0.0.0"  # noqa: S104
    assert services["worker"]["command"] == ["worker", "-w", arguments[0]]
    assert services["worker"]["image"] == services["server"]["image"]
    assert services["database"]["environment"]["POSTGRES_PASSWORD"].startswith(
        "${POSTGRES_PASSWORD"
    )
    docker = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for name in re.findall(r"^COPY (.+) \S+$", docker, re.MULTILINE):
        for part in name.split():
            assert (ROOT / part).exists(), part
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "web" in project["project"]["optional-dependencies"]
