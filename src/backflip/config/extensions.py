"""Modules of others that bring something of their own, as a kind of feedback.

A module registers what it brings as it is imported, and then that takes part everywhere:

    extensions = ["stars.py"]            # at the top of a recipe, beside which the file lies
    BACKFLIP_EXTENSIONS=/home/mia/stars.py backflip serve      # for commands without a recipe
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from types import ModuleType

from backflip.config.validation_errors import shortened
from backflip.errors import SettingsError


def load_extensions(names: Iterable[str]) -> None:
    """Import extensions; one that is imported already is left as it is.

    Args:
        names: paths of `.py` files, and names of modules that can be imported.

    Raises:
        SettingsError: there is no such module, or it fails as it is imported.
    """
    for name in names:
        try:
            if name.endswith(".py"):
                _load_file(Path(name))
            else:
                importlib.import_module(name)
        except Exception as error:
            told = f"{type(error).__name__}: {shortened(' '.join(str(error).split()), 300)}"
            raise SettingsError(
                f"the extension {shortened(name, 300)!r} cannot be imported: {told}",
                where="extensions",
                hint="Name a module that Python finds, or the path of a .py file.",
            ) from error


def load_named_extensions(variable: str) -> None:
    """Import the extensions that an environment variable names; raises as `load_extensions`."""
    given = os.environ.get(variable, "").split(",")
    load_extensions(name.strip() for name in given if name.strip())


def beside(name: str, folder: Path) -> str:
    """An extension that a recipe names: the path of its file, where it lies beside the recipe."""
    for path in (folder / name, folder / f"{name}.py"):
        if path.suffix == ".py" and path.is_file():
            return str(path.resolve())
    return name


def _load_file(path: Path) -> ModuleType:
    """Import a file under a name that no other file has."""
    path = path.resolve()
    digest = blake2b(os.fsencode(path), digest_size=4).hexdigest()
    name = f"backflip_extension_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("Python does not read such files as modules")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
