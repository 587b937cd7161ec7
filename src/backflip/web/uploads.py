"""Files that people send: how large, how long, how many at once, and what room must stay free.

All is asked before the body is read, and again while it comes. What came of a file that is refused
or breaks off is gone with the request.
"""

import errno
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from pydantic import Field
from starlette.datastructures import UploadFile

from backflip.records import Record
from backflip.web.access import Lead
from backflip.web.bodies import Bounds, length_of
from backflip.web.context import Context, context_of
from backflip.web.guard import Gate

_PIECE = 2**20
_NAME_BYTES = 200  # a file system allows 255, and some wrap names in more
_FULL = (errno.ENOSPC, errno.EDQUOT)
FIELDS = {
    "file": {"type": "string", "format": "binary"},
    "format": {"type": "string", "maxLength": 50, "default": "auto"},
    "axis": {"type": "string", "minLength": 1, "maxLength": 200, "default": "overall"},
}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["file"], "properties": FIELDS}
            }
        },
    }
}
"""What the API says of an upload, whose body is read here and not by the framework."""


class Form(Record):
    """What stands beside the file."""

    format: str = Field(default="auto", max_length=50)
    axis: str = Field(default="overall", min_length=1, max_length=200)


@dataclass(frozen=True)
class Upload:
    """A file that has come whole, and what stood beside it."""

    file: UploadFile
    form: Form
    context: Context

    def save(self, folder: Path) -> Path:
        """Write the file into a folder, by its own name as far as that can be one."""
        path = folder / file_name(self.file.filename or "")
        try:
            with path.open("wb") as kept:
                while piece := self.file.file.read(_PIECE):
                    check_room(self.context)
                    kept.write(piece)
        except OSError as error:
            raise _full_or(error) from error
        return path


class Receives(Gate):
    """Receives an upload, once it is known that it may come."""

    def bounds(self, request: Request) -> Bounds:
        context = context_of(request)
        settings = context.settings
        return Bounds(
            most=int(settings.upload_megabytes * 2**20),
            seconds=60 * settings.upload_minutes,
            watch=lambda _: check_room(context),
        )

    async def admit(self, request: Request) -> None:
        """Refuse what is too long, and what there is no room for."""
        self.bounds(request).check_length(request)
        check_room(context_of(request), length_of(request))

    async def __call__(self, request: Request, visitor: Lead) -> AsyncIterator[Upload]:
        under_way, user = visitor.context.uploads, visitor.user.id
        if under_way[user] >= visitor.context.settings.uploads_at_once:
            raise HTTPException(429, "Other files of yours are still on their way. Wait for them.")
        under_way[user] += 1
        try:
            form = await request.form(max_files=1, max_fields=len(FIELDS))
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise HTTPException(422, "file: there is none.")
            beside = {name: form[name] for name in Form.model_fields if name in form}
            yield Upload(file, Form.model_validate(beside), visitor.context)
        except OSError as error:
            raise _full_or(error) from error
        finally:
            under_way[user] -= 1
            await request.close()


AnyUpload = Annotated[Upload, Depends(Receives())]


def file_name(sent: str) -> str:
    """A name that a file can have, as near as may be to the one that was sent."""
    name = "".join(sign for sign in Path(sent).name if sign.isprintable())
    raw = name.encode()[-_NAME_BYTES:]  # the end tells the format
    name = raw.decode(errors="ignore")
    return name if name.strip(". ") else "upload.jsonl"


def check_room(context: Context, length: int = 0) -> None:
    """Refuse (507) where a file of so many bytes would leave less free than must stay so.

    It lies twice in the folder for temporary files: as it comes, and as it is read.
    """
    keep = int(context.settings.upload_free_megabytes * 2**20)
    for folder, times in ((tempfile.gettempdir(), 2), (context.workspace.root, 1)):
        if shutil.disk_usage(folder).free - times * length < keep:
            raise _no_room()


def _no_room() -> HTTPException:
    return HTTPException(507, "There is no room for the file on this server.")


def _full_or(error: OSError) -> Exception:
    return _no_room() if error.errno in _FULL else error
