"""What the first bytes of an image say: its type and its size, read without decoding it.

PNG, JPEG, GIF and WebP, and no other: those are pixels in every browser. SVG is a program.
"""

from typing import Literal, NamedTuple

MediaType = Literal["image/png", "image/jpeg", "image/gif", "image/webp"]
MAX_IMAGE_BYTES = 8_000_000
MAX_PIXELS = 50_000_000
"""Of one image: a few bytes may say that they are more than a reader has memory for."""
_PNG = b"\x89PNG\r\n\x1a\n"
_FRAMES = {0xC0 + n for n in range(16)} - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG behind which the size stands: those of frames, and none of tables."""
_ALONE = {0x01, *range(0xD0, 0xD8)}


class Looks(NamedTuple):
    """What an image is; width and height in pixels."""

    media_type: MediaType
    width: int
    height: int


def look(data: bytes) -> Looks:
    """The type and size of an image; a `ValueError` in words for anything else."""
    if len(data) > MAX_IMAGE_BYTES:
        raise ValueError(f"is larger than {MAX_IMAGE_BYTES:,} bytes")
    found = _png(data) or _jpeg(data) or _gif(data) or _webp(data)
    if found is None:
        raise ValueError("is no PNG, JPEG, GIF or WebP image")
    if found.width * found.height == 0:
        raise ValueError("is cut off, or has no pixels")
    if found.width * found.height > MAX_PIXELS:
        raise ValueError(
            f"has {found.width} x {found.height} pixels, and at most {MAX_PIXELS:,} are kept"
        )
    return found


def _png(data: bytes) -> Looks | None:
    if not data.startswith(_PNG):
        return None
    if data[12:16] != b"IHDR":
        return Looks("image/png", 0, 0)
    return Looks("image/png", _big(data, 16, 4), _big(data, 20, 4))


def _gif(data: bytes) -> Looks | None:
    if not data.startswith((b"GIF87a", b"GIF89a")):
        return None
    return Looks("image/gif", _little(data, 6, 2), _little(data, 8, 2))


def _webp(data: bytes) -> Looks | None:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    width = height = 0
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        width, height = 1 + _little(data, 24, 3), 1 + _little(data, 27, 3)
    elif kind == b"VP8L" and len(data) >= 25 and data[20] == 0x2F:
        bits = _little(data, 21, 4)
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = _little(data, 26, 2) & 0x3FFF, _little(data, 28, 2) & 0x3FFF
    return Looks("image/webp", width, height)


def _jpeg(data: bytes) -> Looks | None:
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # what fills up before a marker
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker in _FRAMES:
            return Looks("image/jpeg", _big(data, at + 7, 2), _big(data, at + 5, 2))
        else:
            at += 2 + max(_big(data, at + 2, 2), 2)
    return Looks("image/jpeg", 0, 0)


def _big(data: bytes, at: int, size: int) -> int:
    """A number of so many bytes; 0 where the data ends before."""
    piece = data[at : at + size]
    return int.from_bytes(piece, "big") if len(piece) == size else 0


def _little(data: bytes, at: int, size: int) -> int:
    piece = data[at : at + size]
    return int.from_bytes(piece, "little") if len(piece) == size else 0
