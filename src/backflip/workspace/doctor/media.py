"""Images held to the hashes that they are named by, and to the prompts that show them."""

import os
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.engine import Connection

from backflip.files.manifest import hash_file
from backflip.records.images import look
from backflip.workspace.doctor.reading import Finding, telling
from backflip.workspace.material.media import HASH, MEDIA, images_spoken_of


def check_media(connection: Connection, artifacts: Path) -> Iterator[Finding]:
    """Images that prompts show: there, and as they were written. Others are told as such."""
    folder = artifacts / MEDIA
    spoken = images_spoken_of(connection)
    for name in sorted(spoken):
        path = folder / name[:2] / name
        try:
            if not path.is_file():
                told = "the image is gone, and a prompt shows it"
                yield Finding(state="lost", what=told, where=str(path))
            elif told := _fault(path):
                yield Finding(state="damaged", what=told, where=str(path))
        except OSError as error:
            yield telling("damaged", error, where=str(path))
    for place, folders, names in os.walk(folder):
        folders.sort()
        for path in (Path(place, name) for name in sorted(names)):
            known = path == folder / path.name[:2] / path.name and path.name in spoken
            if not known:
                what = "no prompt shows it" if HASH.fullmatch(path.name) else "no row speaks of it"
                yield Finding(state="note", what=what, where=str(path))


def _fault(path: Path) -> str | None:
    """What is wrong with the file of an image that a prompt shows."""
    if hash_file(path) != path.name:
        return "the image is not what was written, and a prompt shows it"
    try:
        look(path.read_bytes())
    except ValueError as error:
        return f"the image {error}, and a prompt shows it"
    return None
