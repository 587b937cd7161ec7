"""What the browser tests share: the server, and somebody who sits before a page of it."""

import itertools
import socket
import threading
from collections.abc import Sequence
from typing import Any, Self

import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from backflip.config import ServerSettings
from backflip.web import create_app
from backflip.workspace import Project, ProjectSettings, Task, User, Workspace

PATIENCE = 120_000
"""Milliseconds to wait for what must come: a busy machine is no fault of the page."""
expect.set_options(timeout=PATIENCE)


class Site:
    """The server of a workspace, in a thread of this process.

    Attributes:
        stands_in: status and body that answers get instead of the server's own; None for its own.
    """

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.stands_in: tuple[int, bytes] | None = None
        self.app = create_app(workspace, ServerSettings())
        self._numbers = itertools.count()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        config = uvicorn.Config(
            self._serve, interface="asgi3", log_config=None, timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True
        )

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        if self.stands_in is None or not scope.get("path", "").endswith("/answer"):
            await self.app(scope, receive, send)
            return
        status, body = self.stands_in
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    def __enter__(self) -> Self:
        # A connection waits in the listener until the server takes it: there is nothing to poll.
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE / 1000)
        assert not self._thread.is_alive()
        self._listener.close()

    def make_project(
        self, tasks: Sequence[Task], *, overlap: int, guideline: str | None, rules: dict[str, Any]
    ) -> Project:
        number = next(self._numbers)
        project = self.workspace.projects.create(f"Kindness {number}", ProjectSettings(**rules))
        if guideline is not None:
            self.workspace.projects.add_guideline(project.id, guideline, "lea")
        self.workspace.queue.put(f"run-{number}", 1, tasks, overlap=overlap, project=project.id)
        return project

    def make_user(self, project: Project | None, preferences: dict[str, str] | None) -> User:
        user = self.workspace.people.add(f"mia {next(self._numbers)}")
        if preferences is not None:
            self.workspace.people.change(user.id, preferences=preferences)
        if project is not None:
            self.workspace.projects.set_role(project.id, user.id, "annotator")
        return user

    def cookie(self, user: User) -> Any:
        """The cookie of a session that has begun."""
        key, _ = self.workspace.people.start_session(user.id, 3600)
        value = self.app.state.context.signer.sign(key)
        return {"name": "backflip", "value": value, "url": self.address}


class Desk:
    """Somebody who sits before the labelling page of a project.

    Attributes:
        page: the page.
        user: who sits there.
        complaints: what the browser complained of, every dialogue of a script among it.
    """

    def __init__(
        self,
        site: Site,
        browser: Browser,
        project: Project | None = None,
        *,
        user: User | None = None,
        preferences: dict[str, str] | None = None,
        guest: bool = False,
        **options: Any,
    ):
        self.site = site
        self.project = project
        self.user = user or site.make_user(project, preferences)
        self.complaints: list[str] = []
        self.excused: list[str] = []
        options = {"reduced_motion": "reduce", "base_url": site.address} | options
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(PATIENCE)
        if not guest:
            self.context.add_cookies([site.cookie(self.user)])
        self.page = self.new_page()
        if project is not None:
            self.open(f"/projects/{project.id}/label")
            expect(self.page.locator("#question")).to_be_visible()

    def new_page(self) -> Page:
        page = self.context.new_page()
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog {dialog.message}"))
        return page

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, path: str) -> None:
        response = self.page.goto(path)
        assert response is not None
        assert response.ok, response.status

    def excuse(self, words: str) -> None:
        """Complaints with these words are what the test is about."""
        self.excused.append(words)

    def leave(self) -> list[str]:
        """Close the page; what it complained of."""
        self.context.close()
        return [
            text for text in self.complaints if not any(words in text for words in self.excused)
        ]

    def press(self, *keys: str) -> None:
        """Keys one after the other; a word that is no key is typed."""
        for key in keys:
            if len(key) == 1 or key in KEYS or key.startswith("Control+"):
                self.page.keyboard.press(key)
            else:
                self.page.keyboard.type(key)

    def answers(self) -> list[Any]:
        """What the journal holds of this person, oldest first."""
        return [*self.site.workspace.journal.active(annotator=self.user.annotator)]

    def answer(self) -> Any:
        """The only thing that the journal holds of this person."""
        (entry,) = self.answers()
        return entry

    def shown(self) -> list[str]:
        """The texts of the replies as they stand on the page, A first."""
        return [text.strip() for text in self.page.locator(".reply .body").all_inner_texts()]

    def asked(self) -> str:
        """The dialogue as it stands on the page."""
        return self.page.locator(".turns").inner_text()

    def says(self, words: str) -> None:
        """Wait until the page says these words of how saving went."""
        expect(self.page.locator("#status")).to_have_text(words)

    def skip(self, words: str = "Skipped") -> None:
        """Skip the question and wait for the next."""
        self.page.evaluate("document.getElementById('status').textContent = ''")
        self.press("s")
        self.says(words)

    def drafted(self) -> None:
        """Wait until what is entered is with the server."""
        expect(self.page.locator("#draft")).to_have_text("Draft saved")

    def given(self, number: int) -> None:
        """Wait until the page counts so many answers."""
        expect(self.page.locator("#given")).to_have_text(f"{number} answered by you")

    def asks(self, words: str) -> None:
        """Wait until the page asks this."""
        expect(self.page.locator("#question")).to_have_text(words)

    def focused(self) -> str:
        """What has the focus: its id, else its tag and text."""
        return self.page.evaluate(
            "() => [document.activeElement].map((e) => e.id || `${e.tagName} ${e.innerText}`)[0]"
        )

    def violations(self, *rules: str) -> str:
        """What axe finds wrong with the page as it is; empty for nothing."""
        options: dict[str, Any] = {"resultTypes": ["violations"]}
        if rules:
            options["runOnly"] = {"type": "rule", "values": list(rules)}
        results = Axe().run(self.page, options=options)
        return results.generate_report() if results.violations_count else ""


KEYS = {
    "ArrowDown",
    "ArrowLeft",
    "ArrowRight",
    "ArrowUp",
    "Backspace",
    "End",
    "Enter",
    "Escape",
    "Home",
    "Space",
    "Tab",
}
