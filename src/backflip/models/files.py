"""Files of models: tensors, the record beside them, and the cache."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path
from safetensors.torch import load_file
from torch import Tensor

from backflip.errors import (
    DamageError,
    ModelError,
    why_not_read,
)

RECORD = "backflip.json"
AS_IT_WAS = "Put the file back as it was, from a backup for instance."


def cache_folder() -> Path:
    """Where converted models are kept: `BACKFLIP_CACHE`, else the platform's cache folder."""
    if named := os.environ.get("BACKFLIP_CACHE"):
        return Path(named).expanduser()
    mac = Path.home() / "Library" / "Caches" / "backflip"
    if sys.platform == "darwin" and mac.is_dir():
        return mac  # where it was made before XDG_CACHE_HOME counted there
    return user_cache_path("backflip", appauthor=False, opinion=False)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file.

    Raises:
        DamageError: the file is missing, cut off, or no such file.
    """
    try:
        return load_file(path)
    except OSError as error:
        told = f"{path.name} {why_not_read(error)}"
        raise DamageError(told, where=str(path.parent), hint=AS_IT_WAS) from None
    except Exception as error:  # whatever a broken file makes the reader trip over
        told = f"{path.name} holds no tensors that can be read: {error}"
        raise DamageError(told, where=str(path.parent), hint=AS_IT_WAS) from None


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Keep `record` beside the weights, as `backflip.json`."""
    text = json.dumps(dict(record), indent=2, sort_keys=True, allow_nan=False)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")


def read_record(folder: Path) -> dict[str, Any]:
    """The record in a model's folder; empty for a folder that Backflip did not write.

    Raises:
        ModelError: the file is there and is not a JSON object.
    """
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(why_not_read(error), where=str(path), hint=AS_IT_WAS) from None
    except (ValueError, RecursionError) as error:
        told = f"is not valid JSON: {error}"
        raise ModelError(told, where=str(path), hint=AS_IT_WAS) from None
    if not isinstance(record, dict):
        raise ModelError("is not a JSON object", where=str(path), hint=AS_IT_WAS)
    return record
