"""A judge behind an address of this machine, and runs that ask it."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from loop_helpers import text_recipe


class Judging(BaseHTTPRequestHandler):
    """Prefers the reply with more letters "e", or always says the same; reads as many levels as a
    critique has "!", and fails when it is told to.
    """

    url: str
    asked: list[str]
    always: str | None = None
    fail: Callable[[int], bool]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][1]["content"]
        type(self).asked.append(text)
        if type(self).fail(len(type(self).asked)):
            self.send_error(400)
            return
        if "[CRITIQUE " in text:
            verdict = str(text.split("[CRITIQUE ")[1].split("[END OF")[0].count("!"))
        elif type(self).always is not None:
            verdict = type(self).always
        else:
            first, second = (text.split(f"[REPLY {x} ")[1].split("[END OF")[0] for x in "AB")
            verdict = "A" if first.count("e") > second.count("e") else "B"
        raw = json.dumps({"choices": [{"message": {"content": f"VERDICT: {verdict}"}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def judge_served() -> Iterator[type[Judging]]:
    handler = type("Handler", (Judging,), {"asked": [], "fail": staticmethod(lambda n: False)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    handler.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield handler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def judged(folder: Path, judge: type[Judging], **change: Any) -> dict[str, Any]:
    settings = {"url": judge.url, "model": "m", "parallel": 1, "retries": 0, "both_orders": False}
    feedback = {"source": "judge", "prompts": 10, "judge": settings, **change}
    return text_recipe(folder, sft=None, feedback=feedback)
