"""A judge's server for tests: answers chat completions with what a function of the request says."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from backflip.config import JudgeSettings
from backflip.errors import JudgeError
from backflip.judging.pairwise import Judge
from backflip.records import Completion, Prompt, Sample

PROMPT = Prompt.from_text("What is rain?")
Reply = tuple[int, dict[str, str], bytes]
Answerer = Callable[[dict[str, Any]], Reply | str]


def reply(text: str, index: int = 0) -> Sample:
    return Sample.of(PROMPT, Completion(text=text, finish="stop"), index=index)


KIND, RUDE = reply("Water from clouds, dear."), reply("Look it up.")


class Server:
    """Answers chat completions with what a function of the request says."""

    def __init__(self, answer: Answerer):
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answer = answer
        self.under_way = 0
        self.most_under_way = 0
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server.lock:
                    server.requests.append(body | {"path": self.path})
                    server.headers.append(dict(self.headers))
                    server.under_way += 1
                    server.most_under_way = max(server.most_under_way, server.under_way)
                try:
                    said = server.answer(body)
                finally:
                    # Before the reply goes out: once it has, the judge may send the next request.
                    with server.lock:
                        server.under_way -= 1
                status, headers, raw = completion(said) if isinstance(said, str) else said
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(raw)))
                    self.end_headers()
                    self.wfile.write(raw)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # the judge gave up

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = False
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"


def completion(text: str) -> Reply:
    return 200, {}, json.dumps({"choices": [{"message": {"content": text}}]}).encode()


@contextmanager
def serving(answer: Answerer) -> Iterator[Server]:
    server = Server(answer)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        thread.join()
        server.http.server_close()


@contextmanager
def judge_at(server: Server, *, sleep: Callable[[float], None] | None = None, **settings: Any):
    slept: list[float] = []
    with Judge(JudgeSettings(url=server.url, **settings), sleep=sleep or slept.append) as judge:
        yield judge


def fault(judge: Judge, match: str) -> JudgeError:
    with pytest.raises(JudgeError, match=match) as caught:
        judge.compare(KIND, RUDE)
    return caught.value


def replies_in(body: dict[str, Any]) -> tuple[str, str]:
    """Replies A and B as the judge would find them by the markers."""
    text = body["messages"][1]["content"]
    nonce = re.search(r"^\[PROMPT (\w+)\]$", text, re.MULTILINE)[1]

    def part(name: str) -> str:
        return text.split(f"[{name} {nonce}]\n")[1].split(f"\n[END OF {name} {nonce}]")[0]

    return part("REPLY A"), part("REPLY B")


def parts_of(body: dict[str, Any]) -> dict[str, str]:
    """Every marked part of a request by its name."""
    text = body["messages"][1]["content"]
    nonce = re.search(r"^\[PROMPT (\w+)\]$", text, re.MULTILINE)[1]
    found = re.findall(
        rf"^\[([A-Z ]+) {nonce}\]\n(.*?)\n\[END OF \1 {nonce}\]$", text, re.DOTALL | re.MULTILINE
    )
    return dict(found)


def likes_kindness(body: dict[str, Any]) -> str:
    first, second = replies_in(body)
    if ("dear" in first) == ("dear" in second):
        return "They do not differ.\nVERDICT: TIE"
    return f"One is kinder.\n\nVERDICT: {'A' if 'dear' in first else 'B'}"


def likes_the_first(_: dict[str, Any]) -> str:
    return "The first reads well.\nVERDICT: A"
