"""Images of a workspace: files named by what they hold, below `artifacts/media`.

A prompt's parts name an image by its hash. Its file is on the disk before the row that speaks of
it, is never changed, and goes when its words are erased and no other prompt shows it.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from backflip.errors import (
    FREE_SPACE,
    DamageError,
    NotFoundError,
    WorkspaceError,
    why_not_read,
    why_not_written,
)
from backflip.files.durable import flush_folder, whole_file
from backflip.records import ImagePart, Prompt
from backflip.records.images import MAX_IMAGE_BYTES, look
from backflip.workspace.database import columns, schema
from backflip.workspace.database.engine import Database

MEDIA = "media"
HASH = re.compile(r"[0-9a-f]{64}")
_LOST = "Import the file that it came from once more, or restore it from a backup."
_SHOWS = columns.canonical({"type": "image"}).strip("{}")


class Media:
    """The images that prompts show.

    Args:
        database: whose prompts speak of them.
        artifacts: the folder of the workspace's files.
    """

    def __init__(self, database: Database, artifacts: Path):
        self._database = database
        self.folder = artifacts / MEDIA

    def path(self, name: str) -> Path:
        """Where an image lies, by its hash; a `NotFoundError` for what is no hash."""
        if not HASH.fullmatch(name):
            raise NotFoundError(f"no image {name!r}")
        return self.folder / name[:2] / name

    def add(self, data: bytes) -> str:
        """Keep an image; returns its hash. It is on the disk then, and there once however often.

        One that no prompt speaks of goes with the next erasure.

        Raises:
            WorkspaceError: it is none of the types that are kept, it is too large, or the disk
                refuses.
        """
        try:
            look(data)
        except ValueError as error:
            raise WorkspaceError(f"the image cannot be kept: it {error}") from None
        name = hashlib.sha256(data).hexdigest()
        path = self.path(name)
        try:
            if not path.is_file() or path.read_bytes() != data:  # damaged, and whole again by this
                _write(path, data)
        except OSError as error:
            told = why_not_written(error)
            raise WorkspaceError(told, where=str(path), hint=FREE_SPACE) from error
        return name

    def read(self, name: str) -> bytes:
        """The bytes of an image, held to its hash.

        Raises:
            NotFoundError: what is asked for is no hash.
            DamageError: it is gone, cannot be read, is not what was written, or is no image: a
                backup from anybody may hold a file by any hash.
        """
        path = self.path(name)
        try:
            with path.open("rb") as file:
                data = file.read(MAX_IMAGE_BYTES + 1)
        except FileNotFoundError:
            raise DamageError("the image is gone", where=str(path), hint=_LOST) from None
        except OSError as error:
            told = f"the image {why_not_read(error)}"
            raise DamageError(told, where=str(path), hint=columns.DOCTOR) from error
        if hashlib.sha256(data).hexdigest() != name:
            raise DamageError("the image is not what was written", where=str(path), hint=_LOST)
        try:
            look(data)
        except ValueError as error:
            told = f"the image {error}"
            raise DamageError(told, where=str(path), hint=columns.DOCTOR) from None
        return data

    def keep(self, prompts: Iterable[Prompt]) -> None:
        """Write the images that prompts carry, before a row speaks of them.

        Raises:
            WorkspaceError: the disk refuses, or a prompt shows an image that it neither carries nor
                the workspace has, or says of one what is not so.
            DamageError: an image that it does not carry is damaged.
        """
        prompts = list(prompts)
        done = set[ImagePart]()
        for prompt in prompts:
            for image in prompt.images:
                if image.data is not None and image not in done:
                    self.add(image.data)
                    done.add(image)
        self.require(prompts)
        for prompt in prompts:
            for image in prompt.images:
                if image not in done:
                    self._require_so(image, prompt)
                    done.add(image)

    def _require_so(self, image: ImagePart, prompt: Prompt) -> None:
        """Refuse an image that is here, and not of the type and size that a prompt says."""
        data = self.read(image.hash)
        try:
            image.carrying(data)
        except ValueError as error:
            raise WorkspaceError(f"cannot be kept: {error}", where=prompt.place) from None

    def require(self, prompts: Iterable[Prompt]) -> None:
        """Refuse prompts whose images are not all here; one that is carried is written again."""
        for prompt in prompts:
            for image in prompt.images:
                if self.path(image.hash).is_file():
                    continue
                if image.data is None:
                    what = f"shows the image {image.hash[:12]}, which is not in the workspace"
                    raise WorkspaceError(f"cannot be kept: it {what}", where=prompt.place)
                self.add(image.data)

    def carried(self, prompt: Prompt) -> Prompt:
        """The prompt with the bytes of its images, to be written to a file.

        Raises:
            DamageError: as `read`; also where the prompt says of an image what is not so.
        """
        return prompt.carrying(self._carrying)

    def _carrying(self, part: ImagePart) -> ImagePart:
        data = self.read(part.hash)
        try:
            return part.carrying(data)
        except ValueError as error:
            raise DamageError(str(error), hint=columns.DOCTOR) from None

    def sweep(self) -> int:
        """Delete the images that no prompt shows any more; returns how many.

        Whoever adds a prompt looks for its images again under the lock that this holds.

        Raises:
            WorkspaceError: one cannot be deleted.
        """
        gone = 0
        with self._database.write("prompts") as connection:
            spoken = images_spoken_of(connection)
            for path in sorted(self.folder.glob("*/*")):
                if HASH.fullmatch(path.name) and path.name not in spoken:
                    try:
                        path.unlink(missing_ok=True)
                    except OSError as error:
                        raise WorkspaceError(
                            f"cannot be deleted: {error.strerror or error}",
                            where=str(path),
                            hint="Delete the file: no prompt shows this image any more.",
                        ) from error
                    gone += 1
        return gone


def images_spoken_of(connection: Connection) -> set[str]:
    """Hashes of all images that prompts show; of a prompt that is damaged, all that may be one."""
    content = sa.type_coerce(schema.prompts.c.content, sa.Text)
    query = sa.select(content).where(content.contains(_SHOWS, autoescape=True))
    rows = connection.execute(query, execution_options={"yield_per": 500}).scalars()
    return {name for text in rows for name in HASH.findall(str(text))}


def _write(path: Path, data: bytes) -> None:
    """Write whole or not at all, so that it lasts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(data)
    for folder in (path.parent.parent, path.parent.parent.parent):
        flush_folder(folder)
