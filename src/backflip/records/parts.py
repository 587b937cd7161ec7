"""Parts of what is said in a turn: words and images, in their order.

    message = Message(
        role="user",
        content=(TextPart(text="What is this?"), ImagePart.of(data, alt="A cat on a mat")),
    )

A part is told by its `type`, and one of a type that is not known is refused. An image is named by
the hash of its bytes, which the workspace keeps as a file. On the way there, from the file that an
image was read from, the part carries them; they are no field of it, neither compared nor written.
"""

import hashlib
from functools import cached_property
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Discriminator, Field, Tag

from backflip.records.base import Record
from backflip.records.images import MAX_PIXELS, MediaType, look

MAX_ALT = 2000
NO_ALT = "image without description"


class TextPart(Record):
    """Words."""

    type: Literal["text"] = "text"
    text: str


class ImagePart(Record):
    """An image.

    Attributes:
        hash: SHA-256 of its bytes, in hexadecimal.
        media_type: as the bytes say.
        width, height: in pixels, likewise.
        alt: what is seen in it, for whoever does not see it; None where nobody has said.
    """

    type: Literal["image"] = "image"
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    media_type: MediaType
    width: int = Field(ge=1, le=MAX_PIXELS)
    height: int = Field(ge=1, le=MAX_PIXELS)
    alt: str | None = Field(
        default=None, max_length=MAX_ALT, exclude_if=lambda value: value is None
    )

    @classmethod
    def of(cls, data: bytes, alt: str | None = None) -> Self:
        """The part of these bytes, which it carries; a `ValueError` in words where they are no
        image that is kept.
        """
        seen = look(data)
        if alt is not None and len(alt) > MAX_ALT:
            raise ValueError(f"has a description of more than {MAX_ALT} characters")
        name = hashlib.sha256(data).hexdigest()
        part = cls(hash=name, alt=alt, **seen._asdict())
        return part.carrying(data)

    def carrying(self, data: bytes) -> Self:
        """The part with its bytes.

        Raises:
            ValueError: they are another image's, or not what the part says of them.
        """
        if hashlib.sha256(data).hexdigest() != self.hash:
            raise ValueError(f"the image {self.hash[:12]} has another hash than its bytes")
        if look(data) != (self.media_type, self.width, self.height):
            raise ValueError(f"the image {self.hash[:12]} is of another type or size than it says")
        copy = self.model_copy()
        vars(copy)["data"] = data  # where the cached property looks first
        return copy

    @cached_property
    def data(self) -> bytes | None:
        """Its bytes; None where the part does not carry them, as one from the workspace."""
        return None

    @property
    def text(self) -> str:
        """The image for a reader of text: `[image 640x480: A cat on a mat]`."""
        said = " ".join((self.alt or "").split()) or "without description"
        return f"[image {self.width}x{self.height}: {said}]"


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


def _form(value: Any) -> str:
    return "text" if isinstance(value, str) else "parts"


Said = Annotated[
    Annotated[str, Tag("text")] | Annotated[tuple[Part, ...], Field(min_length=1), Tag("parts")],
    Discriminator(_form),
]
"""The content of a turn: a text, or parts."""


def images_of(content: str | tuple[TextPart | ImagePart, ...]) -> tuple[ImagePart, ...]:
    """The images among what is said in a turn."""
    if isinstance(content, str):
        return ()
    return tuple(part for part in content if isinstance(part, ImagePart))


def words_of(content: str | tuple[TextPart | ImagePart, ...]) -> str:
    """The words of what is said in a turn, one after the other, as chat templates write them."""
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content if isinstance(part, TextPart))


def shown(content: str | tuple[TextPart | ImagePart, ...]) -> str:
    """What is said in a turn for a reader of text; each image is on a line of its own."""
    if isinstance(content, str):
        return content
    text = ""
    for part in content:
        if isinstance(part, ImagePart):
            gap = "\n" if text and not text.endswith("\n") else ""
            text += f"{gap}{part.text}\n"
        else:
            text += part.text
    return text.removesuffix("\n") if isinstance(content[-1], ImagePart) else text


def named_images(content: Any) -> set[str]:
    """Hashes of the images that a prompt's content names, as the workspace keeps it: in JSON."""
    found: set[str] = set()
    turns = cast("dict[str, Any]", content).get("messages") if isinstance(content, dict) else None
    for turn in cast("list[Any]", turns) if isinstance(turns, list) else []:
        said = cast("dict[str, Any]", turn).get("content") if isinstance(turn, dict) else None
        for part in cast("list[Any]", said) if isinstance(said, list) else []:
            if isinstance(part, dict):
                fields = cast("dict[str, Any]", part)
                if fields.get("type") == "image" and isinstance(fields.get("hash"), str):
                    found.add(fields["hash"])
    return found
