"""A model that lacks a tensor, has one too many, or one of another shape is refused by its name."""

import json
import random
import re
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from brought import SCORED, bring
from safetensors.torch import load_file, save_file
from test_finding_models import write_gguf

from backflip.agents import AgentPolicy, ClipScorer, ClipValue
from backflip.config import LoraSettings, ModelSettings
from backflip.errors import DamageError, ModelError
from backflip.models import TextPolicy, TextScorer, find_model, load_causal_lm
from backflip.models.matching import require_finite
from damage import DAMAGES, damage, files_below
from families import FAMILIES
from unsealed import unsealed

Tensors = dict[str, torch.Tensor]
PYTORCH = {"format": "pt"}
SETTINGS = ModelSettings(precision="float32")


def missing(tensors: Tensors, name: str) -> str:
    del tensors[name]
    return name


def misspelt(tensors: Tensors, name: str, place: int | None = None) -> str:
    """One bit of the name is flipped, in any of its words, so that it is no other's."""
    letters = list(name)
    if place is None:
        words = [place for place, letter in enumerate(name) if letter.isalnum()]
        place = random.Random(name).choice(words)
    for bit in (2, 4, 1):
        letters[place] = chr(ord(name[place]) ^ bit)
        if (other := "".join(letters)) not in tensors:
            tensors[other] = tensors.pop(name)
            return name
    raise AssertionError(f"no name beside {name}")


def strange(tensors: Tensors, name: str) -> str:
    tensors["model.strange.weight"] = torch.zeros(2)
    return "model.strange.weight"


def reshaped(tensors: Tensors, name: str) -> str:
    tensors[name] = torch.zeros(3, 5)
    return name


WAYS = (missing, misspelt, strange, reshaped)
MIXED = ("mixtral", "qwen2_moe")
"""Families whose experts lie apart in a file, and are one tensor of the network."""


def spoil(folder: Path, way, rng: random.Random) -> str:
    """Change the weights in a folder; returns the name that must be told."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    name = way(tensors, rng.choice(sorted(tensors)))
    save_file(tensors, file, metadata={"format": "pt"})
    return name


def told_of(name: str) -> str:
    """What a message names: experts that lie apart in a file are one tensor of their layer."""
    return name if ".experts." not in name else name[: name.index(".", name.index("layers.") + 7)]


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_of_every_family_are_whole_or_refused(family: str, tmp_path: Path):
    bring(tmp_path, family, "none")
    load_causal_lm(str(tmp_path))
    whole = (unsealed(tmp_path) / "model.safetensors").read_bytes()
    rng = random.Random(family)
    for way in WAYS:
        (tmp_path / "model.safetensors").write_bytes(whole)
        name = spoil(tmp_path, way, rng)
        with pytest.raises(ModelError) as caught:
            load_causal_lm(str(tmp_path))
        assert told_of(name) in caught.value.what, (way, name, caught.value.what)
        assert caught.value.where == str(tmp_path)
        assert caught.value.hint


def state_of(folder: Path) -> Tensors:
    return load_causal_lm(str(folder))[0].state_dict()


@pytest.mark.parametrize("family", ["gpt2", *MIXED])
def test_a_name_with_a_flipped_bit_anywhere_is_told_or_means_the_same(family: str, tmp_path: Path):
    bring(tmp_path, family, "none")
    before = state_of(tmp_path)
    file = unsealed(tmp_path) / "model.safetensors"
    whole = load_file(file)
    name = next((name for name in whole if ".experts.1." in name), min(whole))
    for place in range(len(name)):
        tensors = dict(whole)
        misspelt(tensors, name, place)
        save_file(tensors, file, metadata={"format": "pt"})
        try:
            after = state_of(tmp_path)
        except ModelError as error:
            assert told_of(name) in error.what, (place, error.what)
        else:  # transformers reads some signs between the words as if they were dots
            assert all(torch.equal(before[key], after[key]) for key in before), (place, name)


@pytest.mark.parametrize("family", MIXED)
def test_experts_are_numbered_from_0_on_in_one_file_and_in_several(family: str, tmp_path: Path):
    bring(tmp_path, family, "none")
    unsealed(tmp_path)
    file, second = tmp_path / "model.safetensors", tmp_path / "second.safetensors"
    whole = load_file(file)
    experts = sorted(name for name in whole if ".layers.1." in name and ".experts." in name)
    expert = [name for name in experts if ".experts.1." in name]
    for sharded in (False, True):
        for renamed in ([], expert[:1], expert[-1:], expert, [n for n in experts if ".0." in n]):
            new = {name: re.sub(r"experts\.\d", "experts.5", name) for name in renamed}
            tensors = {new.get(name, name): tensor for name, tensor in whole.items()}
            write_sharded(tensors, file, second) if sharded else save_file(tensors, file, PYTORCH)
            if not renamed:
                load_causal_lm(str(tmp_path))
                continue
            with pytest.raises(ModelError) as caught:
                load_causal_lm(str(tmp_path))
            assert f"lacks {len(renamed)} tensor" in caught.value.what
            assert all(old in caught.value.what and new[old] in caught.value.what for old in new)


def write_sharded(tensors: Tensors, *files: Path) -> None:
    """The same in several files, with an index of them."""
    names = sorted(tensors)
    index: dict[str, str] = {}
    files = tuple(file.with_stem(f"{file.stem}-part") for file in files)
    for number, file in enumerate(files):
        of_file = {name: tensors[name] for name in names[number :: len(files)]}
        save_file(of_file, file, PYTORCH)
        index |= dict.fromkeys(of_file, file.name)
    (files[0].parent / "model.safetensors").unlink(missing_ok=True)
    told = {"metadata": {}, "weight_map": index}
    (files[0].parent / "model.safetensors.index.json").write_text(json.dumps(told))


@pytest.mark.parametrize("family", SCORED[::6])
def test_a_scorer_may_lack_its_head_and_nothing_else(family: str, tmp_path: Path):
    bring(tmp_path / "language", family, "none")
    settings = SETTINGS.model_copy(update={"name": str(tmp_path / "language")})
    scorer = TextScorer.load(settings, seed=1)  # its head is new, and the output layer left out
    scorer.save(tmp_path / "scorer", {})
    saved = settings.model_copy(update={"name": str(unsealed(tmp_path / "scorer"))})
    TextScorer.load(saved)
    headless = load_file(tmp_path / "scorer" / "model.safetensors")
    unsealed(tmp_path / "language")
    rng = random.Random(family)
    for folder, way in (("language", missing), ("language", strange), ("scorer", misspelt)):
        file = tmp_path / folder / "model.safetensors"
        whole = file.read_bytes()
        name = spoil(tmp_path / folder, way, rng)
        with pytest.raises(ModelError, match=told_of(name)):
            TextScorer.load(settings if folder == "language" else saved)
        file.write_bytes(whole)
    del headless["score.weight"]
    save_file(headless, tmp_path / "scorer" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 tensor: score\.weight"):
        TextScorer.load(saved)


def test_a_head_that_the_settings_do_not_speak_of_is_not_drawn_anew(tmp_path: Path):
    bring(tmp_path / "language", "llama", "none")
    settings = SETTINGS.model_copy(update={"name": str(tmp_path / "language")})
    TextScorer.load(settings).save(tmp_path / "scorer", {})
    path = unsealed(tmp_path / "scorer") / "config.json"
    path.write_text(path.read_text().replace('"architectures"', '"erchitectures"'))
    with pytest.raises(ModelError, match="has a head named score"):
        TextScorer.load(settings.model_copy(update={"name": str(tmp_path / "scorer")}))


def test_adapters_beside_a_model_are_not_loaded_over_it(tmp_path: Path):
    bring(tmp_path, "llama", "none")
    (unsealed(tmp_path) / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="holds adapters"):
        load_causal_lm(str(tmp_path))


def test_trained_adapters_are_all_there_or_refused(tmp_path: Path):
    bring(tmp_path, "llama", "none")
    settings = SETTINGS.model_copy(update={"name": str(tmp_path), "lora": LoraSettings(rank=2)})
    policy = TextPolicy.load(settings)
    state = {name: tensor.clone() for name, tensor in policy.trainable_state().items()}
    policy.load_trainable_state(state)
    for way in WAYS:
        changed = dict(state)
        name = way(changed, random.Random(1).choice(sorted(changed)))
        with pytest.raises(ModelError, match="trained state") as caught:
            policy.load_trainable_state(changed)
        assert name in caught.value.what


@pytest.mark.parametrize("network", [AgentPolicy, ClipValue, ClipScorer])
def test_networks_of_agents_are_whole_or_refused(network, tmp_path: Path):
    shape = {"observation": 3, "actions": 2, "discrete": False, "width": 4}
    network(shape).save(tmp_path / "net", {})
    network.load(tmp_path / "net")
    file = unsealed(tmp_path / "net") / "network.safetensors"
    whole = load_file(file)
    for way in WAYS:
        tensors = dict(whole)
        name = way(tensors, random.Random(2).choice(sorted(whole)))
        save_file(tensors, file)
        with pytest.raises(ModelError) as caught:
            network.load(tmp_path / "net")
        assert name in caught.value.what
        assert str(tmp_path / "net") in str(caught.value.where)
    save_file({name: tensor.to(torch.int32) for name, tensor in whole.items()}, file)
    with pytest.raises(ModelError, match="shapes or types"):
        network.load(tmp_path / "net")


def test_a_gguf_file_is_whole_or_refused(build, tokenizer, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("BACKFLIP_CACHE", str(tmp_path / "cache"))
    add = gguf.GGUFWriter.add_tensor
    up, ours = "blk.1.ffn_up.weight", "model.layers.1.mlp.up_proj.weight"

    def written(**change: str | None) -> str:
        """A file in which tensors have other names, or none."""

        def other(writer: gguf.GGUFWriter, name: str, tensor: np.ndarray) -> None:
            if (called := change.get(name, name)) is not None:
                add(writer, called, tensor)

        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.gguf"
        with monkeypatch.context() as patch:
            patch.setattr(gguf.GGUFWriter, "add_tensor", other)
            write_gguf(path, build("llama"), tokenizer)
        return str(path)

    assert isinstance(find_model(written()), Path)
    lacking = written(**{up: None})
    with pytest.raises(ModelError, match=f"lacks 1 tensor: {ours}") as caught:
        find_model(lacking)
    assert caught.value.where == lacking
    with pytest.raises(ModelError, match=r"what no network does: 1 tensor: blk\.1\.ffn_uq\.weight"):
        find_model(written(**{up: "blk.1.ffn_uq.weight"}))


def test_a_damaged_conversion_is_made_again(build, tokenizer, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("BACKFLIP_CACHE", str(tmp_path / "cache"))
    write_gguf(tmp_path / "tiny.gguf", build("llama"), tokenizer)
    folder = Path(find_model(str(tmp_path / "tiny.gguf")))
    before = (folder / "model.safetensors").read_bytes()
    damage("a flipped bit", folder / "model.safetensors", [folder / "config.json"], random.Random())
    assert find_model(str(tmp_path / "tiny.gguf")) == folder
    assert (folder / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_file_of_a_model_that_was_written_here_is_named(kind: str, tmp_path: Path):
    bring(tmp_path / "model", "llama", "none")
    paths = files_below(tmp_path / "model")
    for seed, path in enumerate(paths):
        before = path.read_bytes()
        damage(kind, path, [paths[seed - 1]], random.Random(seed))
        if kind == "removed" and path.name == "backflip-manifest.json":
            find_model(str(tmp_path / "model"))  # held to nothing, as others' folders are
        else:
            with pytest.raises(DamageError) as caught:
                find_model(str(tmp_path / "model"))
            assert path.name in caught.value.what
            assert caught.value.where == str(tmp_path / "model")
        if path.is_dir():
            (path / "file").unlink()
            path.rmdir()
        path.write_bytes(before)
        find_model(str(tmp_path / "model"))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_told(number: float):
    network = AgentPolicy({"observation": 3, "actions": 2, "discrete": True, "width": 4})
    require_finite(network)
    with torch.no_grad():
        network.net[2].weight[1, 2] = number
    with pytest.raises(ModelError, match=r"no finite numbers in 1 tensor: net\.2\.weight"):
        require_finite(network)
