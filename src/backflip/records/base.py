"""What all records share: frozen, strict about unknown keys, and named by their content."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A plain value that travels between the layers. Equal content means equal records."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def content_id(prefix: str, *parts: Any) -> str:
    """Name a thing by what it holds: the same parts give the same id on every machine.

    Args:
        prefix: kind of thing, kept readable in the id ("prompt", "sample").
        parts: values that JSON can hold; bytes are taken as they are.

    Returns:
        `prefix-` and 20 hexadecimal digits (80 bits) of a BLAKE2b digest.
    """
    digest = hashlib.blake2b(digest_size=10)
    for part in parts:
        raw = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return f"{prefix}-{digest.hexdigest()}"
