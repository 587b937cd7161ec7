"""GGUF files turned into plain safetensors folders, once, in the cache.

A quantised GGUF file takes seconds to unpack and cannot be trained; the folder made from it loads
at once and can. Its name in the cache is the hash of the file's content, so the same file under
two names is converted once, and a changed file is converted again.
"""

import contextlib
import hashlib
import io
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from backflip.errors import ModelError
from backflip.models.files import cache_folder, new_folder
from backflip.models.quiet import isolated_rng, quiet

_LAYOUT = 1  # of the converted folders; a higher number leaves the older ones alone
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
    if not target.is_dir():
        # Two processes may both convert; the first to finish gives the folder its name.
        with new_folder(target, replace=False) as folder:
            _convert(path, folder)
    return target


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


def _read(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    dtype = torch.bfloat16 if path.stat().st_size > _LARGE_BYTES else torch.float32
    try:
        # The progress bar of the unpacking goes to the error stream past every setting.
        with quiet(), isolated_rng(0), contextlib.redirect_stderr(io.StringIO()):
            model = AutoModelForCausalLM.from_pretrained(
                str(path.parent),
                gguf_file=path.name,
                quantization_config=GgufConfig(dequantize=True),
                dtype=dtype,
                local_files_only=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(
                str(path.parent), gguf_file=path.name, local_files_only=True
            )
            return model, tokenizer
    except Exception as error:  # the parser raises whatever a broken file makes it trip over
        raise ModelError(
            f"cannot be converted: {type(error).__name__}: {error}",
            where=str(path),
            hint="Is the file whole, and a language model that transformers can read?",
        ) from error
