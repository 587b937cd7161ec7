"""A real server, and real Chromium to look at it."""

import runpy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_desk import Desk, Site
from playwright.sync_api import Browser, sync_playwright
from web_helpers import SAMPLES

from backflip.workspace import Project, Task, Workspace

TOOLS = Path(__file__).parents[3] / "tools"
FINDER = runpy.run_path(str(TOOLS / "browser.py"))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser; every desk has a context, that is a profile, of its own."""
    with sync_playwright() as playwright:
        program = FINDER["find_chromium"](playwright)
        if program is None:
            pytest.fail(f"no Chromium was found. {FINDER['ADVICE']}")
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


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
