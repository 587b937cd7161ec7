"""A server in this process, people who are signed in to it, and a project with questions."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import starlette.formparsers
from argon2 import PasswordHasher
from asgi_helpers import House
from fastapi.testclient import TestClient
from web_helpers import SAMPLES, Browser, SignIn

from backflip.config import ServerSettings
from backflip.web import create_app, security
from backflip.workspace import Project, Workspace


@pytest.fixture(scope="session", autouse=True)
def quick_hashes() -> Iterator[None]:
    """Hashes that take next to no time: every server makes one, and few tests are about them."""
    with pytest.MonkeyPatch.context() as patched:
        quick = partial(PasswordHasher, time_cost=1, memory_cost=8, parallelism=1)
        patched.setattr(security, "PasswordHasher", quick)
        yield


@pytest.fixture
def settings() -> ServerSettings:
    return ServerSettings()


@pytest.fixture
def server(workspace: Workspace, settings: ServerSettings) -> Callable[[], TestClient]:
    """Makes browsers' ends of the connection; the workspace is on SQLite, then on PostgreSQL."""
    app = create_app(workspace, settings)
    return lambda: TestClient(app, base_url="http://127.0.0.1:8000")


@pytest.fixture
def sign_in(workspace: Workspace, server: Callable[[], TestClient]) -> SignIn:
    """Signs in a new user: `sign_in("mia", "annotator", project)`, or `sign_in("boss")` to rule."""

    def make(name: str, role: str | None = None, project: Project | None = None) -> Browser:
        user = workspace.people.add(name, admin=role is None)
        if role is not None and project is not None:
            workspace.projects.set_role(project.id, user.id, role)  # pyright: ignore
        browser = Browser(server(), user)
        key, session = workspace.people.start_session(user.id, 3600)
        signer = browser.client.app.state.context.signer  # pyright: ignore
        browser.client.cookies.set("backflip", signer.sign(key))
        browser.csrf = session.csrf
        return browser

    return make


@pytest.fixture
def project(workspace: Workspace) -> Project:
    workspace.samples.add(SAMPLES)
    return workspace.projects.create("Kindness")


@pytest.fixture
def house(sqlite_template: Path, tmp_path: Path, settings: ServerSettings) -> Iterator[House]:
    shutil.copytree(sqlite_template, tmp_path / "workspace")
    with Workspace.open(tmp_path / "workspace") as workspace:
        workspace.samples.add(SAMPLES)
        yield House(workspace, settings)


@pytest.fixture
def spooled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Files that the library made of a form, which lie on the disk once they are rolled over."""
    made: list[Any] = []

    class Noted(tempfile.SpooledTemporaryFile[bytes]):
        def __init__(self, *arguments: Any, **options: Any):
            super().__init__(*arguments, **options)
            self.on_disk = False
            made.append(self)

        def rollover(self) -> None:
            self.on_disk = True
            super().rollover()

    monkeypatch.setattr(starlette.formparsers, "SpooledTemporaryFile", Noted)
    return made


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, in which nothing else lies."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder
