"""GGUF files turned into plain safetensors folders, once, in the cache.

A quantised GGUF file takes seconds to unpack and cannot be trained; the folder made from it loads
at once and can. Its name in the cache is the hash of the file's content, so the same file under
two names is converted once, and a changed file is converted again.
"""

import contextlib
import hashlib
import io
import re
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from backflip.errors import DamageError, ModelError
from backflip.files.folders import new_folder
from backflip.files.manifest import require_whole
from backflip.models.files import cache_folder
from backflip.models.matching import counted, require_filled
from backflip.models.quiet import isolated_rng, quiet

_LAYOUT = 2  # of the converted folders; a higher number leaves the older ones alone
_MAGIC = b"GGUF"
_LARGE_BYTES = 2**30


def convert_gguf(path: Path) -> Path:
    """The safetensors folder of a GGUF file, made now if the cache does not have it.

    Weights become float32, which holds every dequantised value exactly; those of a file above
    1 GiB become bfloat16, because float32 would fill the disk.

    Raises:
        ModelError: the file is missing, is no GGUF file, or is of an unknown architecture; or the
            cache cannot be written.
    """
    target = cache_folder() / "models" / f"gguf-v{_LAYOUT}-{_content_hash(path)}"
    if not _is_there(target):
        # Two processes may both convert; the first to finish gives the folder its name.
        with new_folder(target, replace=target.exists()) as folder:
            _convert(path, folder)
    return target


def _is_there(target: Path) -> bool:
    """Whether a converted folder is there, as it was written."""
    try:
        return require_whole(target) is not None
    except DamageError:
        return False


def _content_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise ModelError("is not a GGUF file", where=str(path))
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=str(path)) from None


def _convert(path: Path, folder: Path) -> None:
    model, tokenizer = _read(path)
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _require_known(path: Path) -> None:
    """Refuse tensors that no architecture has: transformers would leave them out without a word.

    A misspelt output layer, for instance, would be taken for one that is the embedding, too.
    """
    from gguf import TENSOR_NAMES, GGUFReader

    bases = (re.escape(name).replace(r"\{bid\}", r"\d+") for name in TENSOR_NAMES.values())
    known = re.compile(rf"({'|'.join(bases)})(\.\w+)?")
    names = [tensor.name for tensor in GGUFReader(path).tensors]
    if unknown := [name for name in names if not known.fullmatch(name)]:
        raise ModelError(
            f"has what no network does: {counted(unknown)}",
            where=str(path),
            hint="Is the file whole? Convert or download it anew.",
        )


def _read(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    dtype = torch.bfloat16 if path.stat().st_size > _LARGE_BYTES else torch.float32
    try:
        # The progress bar of the unpacking goes to the error stream past every setting.
        with quiet(), isolated_rng(0), contextlib.redirect_stderr(io.StringIO()):
            _require_known(path)
            load: Any = AutoModelForCausalLM.from_pretrained
            model, told = load(
                str(path.parent),
                gguf_file=path.name,
                quantization_config=GgufConfig(dequantize=True),
                dtype=dtype,
                local_files_only=True,
                ignore_mismatched_sizes=True,  # told below, with their names
                output_loading_info=True,
            )
            require_filled(told, where=str(path))
            tokenizer = AutoTokenizer.from_pretrained(
                str(path.parent), gguf_file=path.name, local_files_only=True
            )
            return model, tokenizer
    except ModelError:
        raise
    except Exception as error:  # the parser raises whatever a broken file makes it trip over
        raise ModelError(
            f"cannot be converted: {type(error).__name__}: {error}",
            where=str(path),
            hint="Is the file whole, and a language model that transformers can read?",
        ) from error
