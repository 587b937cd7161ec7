"""Finds a Chromium for the browser tests and the screenshots, or gets one.

    python tools/browser.py

Taken is the first of these: the one that BACKFLIP_CHROMIUM names, Playwright's own, one on the
PATH. When there is none, Playwright's own is installed, and where that cannot be had and this is
root on a system with apt, the system's.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Playwright, sync_playwright

NAMED = "BACKFLIP_CHROMIUM"
NAMES = ("chromium", "chromium-browser", "google-chrome")
ADVICE = f"Run `make browser`, or install Chromium and name its program in {NAMED}."


def find_chromium(playwright: Playwright) -> str | None:
    """Path of the browser to start; None when there is none.

    Raises:
        FileNotFoundError: BACKFLIP_CHROMIUM names no program.
    """
    if named := os.environ.get(NAMED):
        found = shutil.which(named)
        if found is None:
            raise FileNotFoundError(f"{NAMED} is {named}, which is no program")
        return found
    own = playwright.chromium.executable_path
    if Path(own).exists():
        return own
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def main() -> None:
    if found := _found():
        sys.stdout.write(f"{found}\n")
        return
    _run(sys.executable, "-m", "playwright", "install", "chromium")
    if not _found() and os.geteuid() == 0 and shutil.which("apt-get"):
        _run("apt-get", "update")
        # With what it recommends: without fonts there is no text to look at.
        _run("apt-get", "install", "--yes", "chromium")
    if not _found():
        sys.exit(f"No Chromium could be installed. {ADVICE}")


def _found() -> str | None:
    with sync_playwright() as playwright:
        return find_chromium(playwright)


def _run(*command: str) -> None:
    sys.stdout.write(f"{' '.join(command)}\n")
    sys.stdout.flush()
    subprocess.run(command, check=False)  # noqa: S603  (the commands stand above)


if __name__ == "__main__":
    main()
