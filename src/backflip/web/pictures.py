"""Images of prompts: as a page shows them, and as they are sent.

An image is sent to whoever may see the question or the answer that shows it, from an address below
that one. Its type is what its bytes say and no other, so that no browser takes it for a page or a
program, and a page shows it in an `<img>`, in which nothing runs.
"""

from collections.abc import Iterable
from html import escape
from typing import Any

from fastapi import HTTPException
from fastapi.responses import Response

from backflip.plain_text import clean_text
from backflip.records import ImagePart, Prompt
from backflip.records.images import look
from backflip.records.parts import NO_ALT
from backflip.workspace import Workspace

CACHED = "private, max-age=86400, immutable"
"""What has this hash never changes; on the way, and on no shared machine, is it kept."""
PICTURE: dict[str, Any] = {
    "response_class": Response,
    "responses": {
        200: {
            "content": {
                name: {"schema": {"type": "string", "format": "binary"}}
                for name in ("image/png", "image/jpeg", "image/gif", "image/webp")
            }
        }
    },
}
"""What a route that sends one says of it."""


def picture_html(part: ImagePart, images: str) -> str:
    """An image in a page, with what is said of it for those who do not see it.

    Where nothing is, the page's script says that in the language of the page.

    Args:
        part: of a prompt.
        images: the address below which the page may ask for the images of this prompt.
    """
    alt = " ".join(clean_text(part.alt or "").split())
    said = f'alt="{escape(alt)}"' if alt else f'alt="{NO_ALT}" data-undescribed'
    size = f'width="{part.width}" height="{part.height}"'
    source = f"{images}/{part.hash}"
    return f'<p class="picture"><img src="{escape(source)}" {said} {size} loading="lazy"></p>\n'


def picture(workspace: Workspace, prompts: Iterable[Prompt], name: str) -> Response:
    """An image that one of these prompts shows.

    Raises:
        HTTPException: none of them does (404).
        DamageError: its file is gone or damaged.
    """
    if not any(image.hash == name for prompt in prompts for image in prompt.images):
        raise HTTPException(404, "There is no such image here.")
    data = workspace.media.read(name)
    headers = {"cache-control": CACHED}
    return Response(data, media_type=look(data).media_type, headers=headers)
