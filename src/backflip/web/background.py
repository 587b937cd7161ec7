"""What a server does beside answering requests: says that it is up, delivers webhooks, has reports
made.
"""

import logging
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

from backflip.errors import BackflipError
from backflip.web.headers import log
from backflip.web.webhooks import deliver
from backflip.workspace import Workspace

BEAT_SECONDS = 10.0
LOOK_SECONDS = 1.0
FIRST_WAIT, LONGEST_WAIT = 30.0, 3600.0
"""Seconds until a report that failed is tried again, twice as long each time."""
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
        self._report: tuple[str, subprocess.Popen[bytes]] | None = None
        self._failed: dict[str, _Failure] = {}
        self._thread = threading.Thread(target=self._work, name="background", daemon=True)

    def __enter__(self) -> "Background":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=15)
        if self._report is not None and self._report[1].poll() is None:
            self._report[1].terminate()
            self._report[1].wait()
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

        Reading half a million answers would keep this process from its visitors. One that cannot
        be made waits, ever longer, and keeps no other from being made.
        """
        if self._report is not None:
            project, process = self._report
            code = process.poll()
            if code is None:
                return
            if code:
                log("report", project=project, fault=f"the process ended with {code}")
                self._failed[project] = _Failure.after(self._failed.get(project))
            else:
                self._failed.pop(project, None)
            self._report = None
        now = time.monotonic()
        for project in self._workspace.reports.wanted():
            failure = self._failed.get(project)
            if failure is None or failure.until <= now:
                self._report = project, self._begin(project)
                return

    def _begin(self, project: str) -> subprocess.Popen[bytes]:
        place = ["-w", str(self._workspace.root), "--project", project]
        return subprocess.Popen(  # noqa: S603  (this program, and an id of the store)
            [sys.executable, "-c", _START, "quality", "--keep", "--json", *place],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )


@dataclass(frozen=True)
class _Failure:
    """A report that could not be made: how long it waited, and until when it waits now."""

    wait: float
    until: float

    @classmethod
    def after(cls, last: "_Failure | None") -> "_Failure":
        wait = FIRST_WAIT if last is None else min(2 * last.wait, LONGEST_WAIT)
        return cls(wait, time.monotonic() + wait)
