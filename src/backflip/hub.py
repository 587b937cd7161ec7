"""Names on the Hugging Face hub: which may be one, and whether the hub can be asked at all."""

import os
import threading
import time
from pathlib import Path
from typing import Any

SECONDS = 5.0
"""How long the hub may take to answer."""
SILENCE = 20.0
"""Seconds without a byte after which a question to the hub, or a download, is given up."""
_KEPT = 60.0
_asked: tuple[float, str | None] | None = None
"""When the hub was last asked, and what stood in the way then."""
_answered: set[str] = set()
"""What it was asked of meanwhile, with an answer."""

UNREACHED_HINT = (
    "Check the network, and HF_ENDPOINT where a mirror is meant; or fetch it where there is a "
    "network and name its folder."
)


def looks_like_path(name: str) -> bool:
    """Whether a name at which nothing lies means a path and not "owner/name" on the hub.

    It begins or is parted as paths are, or begins with a folder that is there.
    """
    owner = name.partition("/")[0]
    shaped = name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1
    return shaped or (owner != name and os.path.lexists(Path(owner)))


def unreachable(place: str) -> str | None:
    """Why the hub cannot be asked, within a few seconds; None where it answers.

    Its client tries again and again for minutes. An answer counts for a minute.

    Args:
        place: what is looked for there: "models/OWNER/NAME" or "datasets/OWNER/NAME".
    """
    global _asked
    now = time.monotonic()
    if _asked is None or now - _asked[0] > _KEPT:
        _asked = None
        _answered.clear()
    if _asked is None or (_asked[1] is None and place not in _answered):
        _asked = (now, _ask(place))
        _answered.add(place)
    return _asked[1]


def _ask(place: str) -> str | None:
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    told: list[str | None] = []

    def ask() -> None:
        try:
            client = get_session()
            _limit_silence(client)
            # Whatever it says, as that nobody may see this, it answers.
            client.head(f"{constants.ENDPOINT}/api/{place}", timeout=SECONDS)
            told.append(None)
        except Exception as error:  # the client and what is under it have classes of their own
            told.append(str(error) or type(error).__name__)

    # In a thread: looking up a name has no time limit of its own.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(SECONDS + 1)
    return told[0] if told else f"no answer from {constants.ENDPOINT} in {SECONDS:g} seconds"


def _limit_silence(client: Any) -> None:
    """Have no request of the hub's client wait for ever, as it does by default."""
    hooks = client.event_hooks
    if _end_in_time not in hooks["request"]:
        hooks["request"].append(_end_in_time)
        client.event_hooks = hooks


def _end_in_time(request: Any) -> None:
    given = request.extensions.get("timeout") or {}
    limits = dict.fromkeys(("connect", "read", "write", "pool"), SILENCE)
    request.extensions["timeout"] = {name: given.get(name) or most for name, most in limits.items()}
