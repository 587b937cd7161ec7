"""A real server, and real Chromium to look at it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_desk import Desk, Site
from playwright.sync_api import Browser
from web_helpers import SAMPLES

from backflip.workspace import Project, Task, Workspace


@pytest.fixture(scope="module")
def site(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory, chromium: Browser
) -> Iterator[Site]:
    """A server of a workspace on SQLite, on a port of its own."""
    folder = tmp_path_factory.mktemp("site") / "workspace"
    shutil.copytree(sqlite_template, folder)
    with Workspace.open(folder) as workspace:
        workspace.samples.add(SAMPLES)
        with Site(workspace) as served:
            yield served


@pytest.fixture
def ask(site: Site) -> Callable[..., Project]:
    """Makes a project with questions: `ask(PAIR, overlap=2)`."""

    def make(*tasks: Task, overlap: int = 1, guideline: str | None = None, **rules: Any) -> Project:
        return site.make_project(tasks, overlap=overlap, guideline=guideline, rules=rules)

    return make


@pytest.fixture
def sit(site: Site, chromium: Browser) -> Iterator[Callable[..., Desk]]:
    """Puts somebody at a desk: `sit(project)`; in the end no page may have complained."""
    desks: list[Desk] = []

    def make(project: Project | None = None, **options: Any) -> Desk:
        desks.append(Desk(site, chromium, project, **options))
        return desks[-1]

    yield make
    complaints = [complaint for desk in desks for complaint in desk.leave()]
    assert complaints == []
