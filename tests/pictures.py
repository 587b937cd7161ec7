"""Small images of every type, and dialogues that show them."""

import zlib

from hypothesis import strategies as st

from backflip.records import Dialogue, ImagePart, Message, Prompt, TextPart


def png(width: int = 3, height: int = 2, shade: int = 0) -> bytes:
    """A whole one, which a browser shows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return len(data).to_bytes(4, "big") + checked + zlib.crc32(checked).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\0\0\0\0"
    rows = (b"\0" + bytes([shade]) * width) * height if width * height < 10**6 else b""
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def jpeg(width: int = 3, height: int = 2, shade: int = 0) -> bytes:
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    thumbnail = b"\xff\xe1\x00\x0a\xff\xc0\x00\x11\x08\x99\x99\x99"
    frame = b"\xff\xc2\x00\x0b\x08" + size + b"\x01\x01\x11\x00"
    return b"\xff\xd8" + thumbnail + b"\xff" + frame + bytes([shade])


def gif(width: int = 3, height: int = 2, shade: int = 0) -> bytes:
    size = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    return b"GIF89a" + size + b"\x80\0\0" + bytes([shade]) * 6 + b";"


def _riff(kind: bytes, data: bytes) -> bytes:
    body = b"WEBP" + kind + len(data).to_bytes(4, "little") + data
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def webp(width: int = 3, height: int = 2, shade: int = 0) -> bytes:
    size = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    return _riff(b"VP8 ", b"\x30\x01\x00\x9d\x01\x2a" + size + bytes([shade]))


def webp_lossless(width: int = 3, height: int = 2, shade: int = 0) -> bytes:
    bits = (width - 1) | (height - 1) << 14
    return _riff(b"VP8L", b"\x2f" + bits.to_bytes(4, "little") + bytes([shade]))


def webp_extended(width: int = 3, height: int = 2, shade: int = 0) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return _riff(b"VP8X", b"\0\0\0\0" + size + bytes([shade]))


TYPES = {
    png: "image/png",
    jpeg: "image/jpeg",
    gif: "image/gif",
    webp: "image/webp",
    webp_lossless: "image/webp",
    webp_extended: "image/webp",
}
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
images = st.builds(
    lambda make, width, height, shade, alt: ImagePart.of(make(width, height, shade), alt),
    st.sampled_from(list(TYPES)),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 255),
    st.none() | words,
)
parts = st.lists(st.builds(TextPart, text=words) | images, min_size=1, max_size=4).map(tuple)
said = words.filter(str.strip) | parts


@st.composite
def dialogues(draw: st.DrawFn) -> Prompt:
    """A prompt of one turn or three, each a text or parts."""
    turns = draw(st.lists(said, min_size=1, max_size=3).filter(lambda turns: len(turns) % 2))
    messages = tuple(
        Message(role=("user", "assistant")[i % 2], content=content)
        for i, content in enumerate(turns)
    )
    return Prompt(content=Dialogue(messages=messages), source="pictures:1")


def shows(*pictures: bytes, alt: str | None = None, text: str = "What is this?") -> Prompt:
    """A prompt that shows images below a text."""
    content = (TextPart(text=text), *(ImagePart.of(data, alt) for data in pictures))
    return Prompt(content=Dialogue(messages=(Message(role="user", content=content),)))
