"""What a server does beside answering requests: says that it is up, delivers webhooks, has reports
made.
"""

import logging
import subprocess
import sys
import threading
import time

from backflip.errors import BackflipError
from backflip.feedback.store import Workspace
from backflip.web.headers import log
from backflip.web.webhooks import deliver

BEAT_SECONDS = 10.0
LOOK_SECONDS = 1.0
_START = "from backflip.cli import main; main()"


class Background:
    """A thread that works while a `with` block lasts.

    Args:
        workspace: that is served.
        address: of the server.
        inside: whether webhooks may lead into the server's own network.
    """

    def __init__(self, workspace: Workspace, address: str, *, inside: bool):
        self._workspace = workspace
        self._address = address
        self._inside = inside
        self._over = threading.Event()
        self._report: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._work, name="background", daemon=True)

    def __enter__(self) -> "Background":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=15)
        if self._report is not None and self._report.poll() is None:
            self._report.terminate()
            self._report.wait()
        try:
            self._workspace.servers.end(self._address)
        except BackflipError as error:
            log("background", fault=str(error))

    def _work(self) -> None:
        next_beat = 0.0
        while not self._over.is_set():
            try:
                if time.monotonic() >= next_beat:
                    self._workspace.servers.note(self._address)
                    next_beat = time.monotonic() + BEAT_SECONDS
                busy = deliver(self._workspace, inside=self._inside) > 0
                self._make_report()
            except BackflipError as error:
                # The database is away: requests say so too, and this goes on when it is back.
                log("background", fault=str(error))
                busy = False
            except Exception:
                logging.getLogger("backflip.web").exception("background work failed")
                busy = False
            if not busy:
                self._over.wait(LOOK_SECONDS)

    def _make_report(self) -> None:
        """Begin a report that is asked for, one at a time, in a process of its own.

        Reading half a million answers would keep this process from its visitors.
        """
        if self._report is not None:
            code = self._report.poll()
            if code is None:
                return
            if code:
                log("report", fault=f"the process ended with {code}")
            self._report = None
        project = self._workspace.reports.wanted()
        if project is not None:
            place = ["-w", str(self._workspace.root), "--project", project]
            self._report = subprocess.Popen(  # noqa: S603  (this program, and an id of the store)
                [sys.executable, "-c", _START, "quality", "--keep", "--json", *place],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
