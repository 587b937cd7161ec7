"""The application called without a client, by a sender who sees how far its body was read."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

import anyio

from backflip.config import ServerSettings
from backflip.web import create_app
from backflip.workspace import Workspace

T = TypeVar("T")
BOUNDARY = "limit"
KINDS = {
    "json": "application/json",
    "form": "application/x-www-form-urlencoded",
    "file": f"multipart/form-data; boundary={BOUNDARY}",
}


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to its end in a thread of its own: a browser's driver may hold a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def file_part(content: bytes, name: str = "votes.jsonl") -> list[bytes]:
    """A multipart body with one file."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return [head.encode(), content, f"\r\n--{BOUNDARY}--\r\n".encode()]


@dataclass
class Call:
    """A request to an application, and what became of it.

    Attributes:
        app: the application.
        method, path, query: of the request.
        headers: of the request.
        pieces: of the body, sent one after the other as they are asked for.
        pause: seconds before each piece.
        read: bytes that were asked for.
        status, response_headers, body: of the response.
    """

    app: Any
    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    pieces: Iterable[bytes] = ()
    pause: float = 0.0
    read: int = 0
    status: int = 0
    response_headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    query: str = ""

    async def send(self) -> "Call":
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": quote(self.path).encode(),
            "query_string": self.query.encode(),
            "root_path": "",
            "headers": [(k.encode(), v.encode("latin-1")) for k, v in self.headers.items()],
            "client": ("192.0.2.1", 1234),
            "server": ("127.0.0.1", 8000),
        }
        messages = self._messages()
        await self.app(scope, lambda: anext(messages), self._take)
        return self

    async def _messages(self) -> AsyncIterator[dict[str, Any]]:
        for piece in self.pieces:
            await anyio.sleep(self.pause)
            self.read += len(piece)
            yield {"type": "http.request", "body": piece, "more_body": True}
        yield {"type": "http.request", "body": b"", "more_body": False}
        yield {"type": "http.disconnect"}

    async def _take(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.response_headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            self.body += message.get("body", b"")


class House:
    """A server in this process, and the headers of who may ask it what."""

    def __init__(self, workspace: Workspace, settings: ServerSettings):
        self.app = create_app(workspace, settings)
        self.workspace = workspace
        self.signer = self.app.state.context.signer
        self.project = workspace.projects.create("Kindness").id
        elsewhere = workspace.projects.create("Elsewhere").id
        roles = {"user": (elsewhere, "lead"), "annotator": (self.project, "annotator")}
        roles["lead"] = (self.project, "lead")
        self.headers: dict[str, dict[str, str]] = {"nobody": {}}
        for name in (*roles, "admin"):
            user = workspace.people.add(name, admin=name == "admin")
            if name in roles:
                project, role = roles[name]
                workspace.projects.set_role(project, user.id, role)  # pyright: ignore
            key, session = workspace.people.start_session(user.id, 3600)
            cookie = f"backflip={self.signer.sign(key)}"
            self.headers[name] = {"cookie": cookie, "x-csrf-token": session.csrf}
        self.guest = {"cookie": f"backflip-guest={self.signer.sign('guest')}"}

    def call(self, who: str, method: str, path: str, kind: str = "file", **options: Any) -> Call:
        headers = {"content-type": KINDS[kind], "transfer-encoding": "chunked"}
        headers |= self.headers[who] | options.pop("headers", {})
        return Call(self.app, method, path, headers, **options)

    def upload(self, who: str = "lead", **options: Any) -> Call:
        return self.call(who, "POST", f"/api/projects/{self.project}/import", **options)
