"""Running the server until it is told to stop."""

import logging
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

import uvicorn

from backflip.config import ServerSettings
from backflip.errors import BackflipError
from backflip.web.app import create_app
from backflip.web.background import Background
from backflip.workspace import Workspace

SWITCH_SECONDS = 0.0005
"""After which a thread that computes lets others go on. A request waits for the database some
twenty times: at Python's own 5 milliseconds it would wait for a busy thread after each."""


def serve(workspace: Workspace, settings: ServerSettings, say: Callable[[str], None]) -> int | None:
    """Serve a workspace until Ctrl-C or SIGTERM; requests under way are answered first.

    Args:
        workspace: that is served.
        settings: where and how.
        say: tells a line to who started the server.

    Returns:
        the signal that ended it, if one did.

    Raises:
        BackflipError: the address cannot be listened on.
    """
    listener = _listen(settings)
    port = listener.getsockname()[1]
    address = address_of(settings, port)
    say(f"Serving {workspace.root} at {address}")
    key = workspace.people.set_up(3600 * settings.setup_hours)
    if key is not None:
        say(
            "Make the first account, the administrator's, within "
            f"{settings.setup_hours:g} hours at {address}/join/{key}"
        )
    _log_to_standard_error()
    sys.setswitchinterval(SWITCH_SECONDS)
    config = uvicorn.Config(
        create_app(workspace, settings),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    server = uvicorn.Server(config)
    got: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        got.append(number)
        server.should_exit = True

    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # The library takes the first two itself, and raises them again once it has ended, which
        # must not end this process before the rest is put in order.
        if signal.getsignal(sign) != signal.SIG_IGN:
            signal.signal(sign, end)
    with Background(workspace, address, inside=settings.webhooks_inside):
        server.run(sockets=[listener])
    return got[0] if got else None


def address_of(settings: ServerSettings, port: int) -> str:
    """The address that people use."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
    host = f"[{host}]" if ":" in host else host
    return settings.public_url or f"http://{host}:{port}"


def _listen(settings: ServerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        # At once: whoever follows the address that is told now waits and is not turned away.
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise BackflipError(
            f"cannot listen on port {settings.port} of {settings.host}: {error.strerror}",
            hint="Is another server there? Choose another port with port=8001, or port=0.",
        ) from None
    return listener


def _log_to_standard_error() -> None:
    """One line of JSON a request, on standard error; the library's own notes from warnings up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    for name, level in (("backflip.web", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
