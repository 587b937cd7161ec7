"""Folders as others write them: held to nothing."""

from pathlib import Path

from backflip.files.manifest import MANIFEST


def unsealed(folder: Path) -> Path:
    """A folder that Backflip wrote, without its manifest: what is changed in it is taken as meant.

    So are those that were written before there were manifests.
    """
    (folder / MANIFEST).unlink()
    return folder
