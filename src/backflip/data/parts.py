"""Content in typed parts, as other programs write it: OpenAI's, Anthropic's and transformers'.

    [{"type": "text", "text": "What is this?"},
     {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0..."}}]

An image is read where its bytes stand in the row. One that is only named, by an address or a path,
is refused: a file from anybody has nothing fetched, and no file of this machine opened. What type
an image is of its bytes say, and not the row.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any

from backflip.records import ImagePart, Message, TextPart
from backflip.records.images import MAX_IMAGE_BYTES
from backflip.records.parts import images_of

_TEXT_PARTS = (None, "text", "input_text", "output_text")
_IMAGE_PARTS = ("image", "image_url", "input_image")
_DATA = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_ADDRESS = re.compile(r"(?:https?|ftp|s3|gs|hf)://", re.IGNORECASE)
_BYTES_IN_ROW = 'give the image itself, as "data:image/png;base64,..."'


def read_parts(parts: Sequence[Any], where: str) -> str | tuple[TextPart | ImagePart, ...]:
    """The content of a turn that is a list: one text where all parts are words, else parts.

    Args:
        parts: as they stand in a row.
        where: says in words whose they are.

    Raises:
        ValueError: in words, for a part that cannot be read.
    """
    read = tuple(_part(part, f"part {i} of {where}") for i, part in enumerate(parts, 1))
    # Parts that are all words say no more than one text: it has that text's id.
    return read if images_of(read) else "".join(p.text for p in read)


def parts_to_row(message: Message) -> str | list[dict[str, Any]]:
    """The way back, in OpenAI's form; images that the message does not carry are refused."""
    if not message.images or isinstance(message.content, str):
        return message.words
    return [
        {"type": "text", "text": part.text} if isinstance(part, TextPart) else _image_to_row(part)
        for part in message.content
    ]


def _image_to_row(part: ImagePart) -> dict[str, Any]:
    if part.data is None:
        raise ValueError("the bytes of an image are not at hand")
    url = f"data:{part.media_type};base64,{base64.b64encode(part.data).decode('ascii')}"
    row = {"type": "image_url", "image_url": {"url": url}}
    return row if part.alt is None else row | {"alt": part.alt}


def _part(part: Any, where: str) -> TextPart | ImagePart:
    kind = part.get("type") if isinstance(part, Mapping) else part
    if isinstance(part, Mapping) and kind in _TEXT_PARTS and isinstance(part.get("text"), str):
        return TextPart(text=part["text"])
    if not isinstance(part, Mapping) or kind not in _IMAGE_PARTS:
        raise ValueError(f"{where} holds something that is neither text nor an image")
    alt = part.get("alt")
    if not isinstance(alt, str | None):
        raise ValueError(f"{where} has an alt that is not a text")
    try:
        return ImagePart.of(_bytes(part), alt)
    except ValueError as error:
        raise ValueError(f"{where}: the image {error}") from None


def _bytes(part: Mapping[str, Any]) -> bytes:
    """The bytes of an image that stand in its part."""
    source = part.get("source")  # as Anthropic writes it
    if isinstance(source, Mapping):
        part = {"base64": source.get("data"), "url": source.get("url")}
    given = next((part[n] for n in ("image_url", "image", "url") if part.get(n) is not None), None)
    if isinstance(given, Mapping):  # OpenAI's {"url": ...}, and the images of `datasets`
        if isinstance(given.get("bytes"), bytes):
            return given["bytes"]
        given = given.get("url") or given.get("path")
    if isinstance(given, str):
        if found := _DATA.match(given):
            return _decoded(given[found.end() :])
        if given[:5].lower() == "data:":
            raise ValueError("is a data: address that is not base64")
        if _ADDRESS.match(given):
            raise ValueError(f"lies at an address, which is not fetched: {_BYTES_IN_ROW}")
        raise ValueError(f"is named by a path, which is not opened: {_BYTES_IN_ROW}")
    if isinstance(part.get("base64"), str):
        return _decoded(part["base64"])
    raise ValueError(f"is not there: {_BYTES_IN_ROW}")


def _decoded(text: str) -> bytes:
    if len(text) > MAX_IMAGE_BYTES * 4 // 3 + 4:
        raise ValueError(f"is larger than {MAX_IMAGE_BYTES:,} bytes")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64") from None
