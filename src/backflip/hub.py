"""Names on the Hugging Face hub: which may be one, and whether the hub can be asked at all."""

import os
import threading
import time
from pathlib import Path

SECONDS = 5.0
"""How long the hub may take to answer."""
_KEPT = 60.0
_asked: tuple[float, str | None] | None = None
"""When the hub was last asked, and what stood in the way then."""

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


def unreachable() -> str | None:
    """Why the hub cannot be asked, within a few seconds; None where it answers.

    Its client tries again and again for minutes. An answer counts for a minute.
    """
    global _asked
    now = time.monotonic()
    if _asked is None or now - _asked[0] > _KEPT:
        _asked = (now, _ask())
    return _asked[1]


def _ask() -> str | None:
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    told: list[str | None] = []

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=SECONDS)
            told.append(None)
        except Exception as error:  # the client and what is under it have classes of their own
            told.append(str(error) or type(error).__name__)

    # In a thread: looking up a name has no time limit of its own.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(SECONDS + 1)
    return told[0] if told else f"no answer from {constants.ENDPOINT} in {SECONDS:g} seconds"
