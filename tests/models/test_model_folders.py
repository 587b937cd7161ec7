import json

import platformdirs.macos
import platformdirs.unix
import platformdirs.windows
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from backflip.config import LoraSettings, ModelSettings
from backflip.errors import ModelError
from backflip.files.folders import new_folder
from backflip.files.manifest import MANIFEST
from backflip.models import TextInputs, TextPolicy, cache_folder, read_record
from backflip.models.files import write_record
from unsealed import unsealed


def everything_under(path):
    return sorted(str(p.relative_to(path)) for p in path.rglob("*"))


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "model"
    with new_folder(target, replace=True) as draft:
        (draft / "a").write_text("one")
        assert not target.exists()
    assert (target / "a").read_text() == "one"

    def die_half_way():
        with new_folder(target, replace=True) as draft:
            (draft / "b").write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        die_half_way()
    assert set(everything_under(target)) == {"a", MANIFEST}
    assert [path.name for path in target.parent.iterdir()] == ["model"]


def test_a_folder_gives_way_or_wins_as_asked(tmp_path):
    target = tmp_path / "model"
    for name, replace in (("first", False), ("second", False), ("third", True)):
        with new_folder(target, replace=replace) as draft:
            (draft / name).touch()
        kept = "third" if replace else "first"
        assert set(everything_under(target)) == {kept, MANIFEST}
        assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "model"
    with (
        pytest.raises(ModelError, match="cannot be written") as caught,
        new_folder(target, replace=True),
    ):
        pass
    assert caught.value.where == str(target)


def test_records_come_back_and_broken_ones_are_refused(tmp_path):
    assert read_record(tmp_path) == {}
    write_record(tmp_path, {"b": [1, 2], "a": {"x": 0.25}})
    assert read_record(tmp_path) == {"a": {"x": 0.25}, "b": [1, 2]}
    for text, message in (("{", "not valid JSON"), ("[1]", "not a JSON object")):
        (tmp_path / "backflip.json").write_text(text)
        with pytest.raises(ModelError, match=message):
            read_record(tmp_path)


def test_the_cache_is_where_it_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKFLIP_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("BACKFLIP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))
    assert cache_folder() == tmp_path / "there" / "backflip"


@pytest.mark.parametrize(
    ("system", "dirs", "place"),
    [
        ("linux", platformdirs.unix.Unix, ".cache/backflip"),
        ("darwin", platformdirs.macos.MacOS, "Library/Caches/backflip"),
        ("win32", platformdirs.windows.Windows, "AppData/Local/backflip"),
    ],
)
def test_each_system_keeps_its_cache_where_it_was(tmp_path, monkeypatch, system, dirs, place):
    for variable in ("BACKFLIP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("platformdirs.PlatformDirs", dirs)
    local = str(tmp_path / "AppData" / "Local")
    monkeypatch.setattr("platformdirs.windows.get_win_folder", lambda _: local)
    assert cache_folder() == tmp_path / place
    assert not (tmp_path / place).exists(), "asking makes nothing"
    (tmp_path / place).mkdir(parents=True)
    if system == "darwin":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))
    assert cache_folder() == tmp_path / place, "what was made there stays in use"


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4)])
def test_a_saved_policy_is_a_plain_model(build, architecture, tokenizer, inputs, tmp_path, lora):
    policy = TextPolicy.from_model(build(architecture), tokenizer, lora=lora)
    policy.model.generation_config.eos_token_id = [3, 2]
    generator = torch.Generator().manual_seed(1)
    for tensor in policy.trainable_state().values():
        tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.1)
    mine = policy.evaluate(inputs).logprobs_BT
    policy.save(tmp_path / "saved", {"name": "round-1", "step": 3})
    assert torch.equal(policy.evaluate(inputs).logprobs_BT, mine)

    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert not [name for name in plain.state_dict() if "lora" in name or "base_layer" in name]
    assert plain.generation_config.eos_token_id == [3, 2]
    with torch.no_grad():
        table = torch.log_softmax(plain(inputs.input_ids_BL).logits, -1)
    picked = table.gather(1, inputs.predicting_BT[..., None].expand(-1, -1, table.shape[-1]))
    theirs = picked.gather(2, inputs.actions_BT[..., None])[..., 0][inputs.mask_BT]
    assert torch.allclose(mine[inputs.mask_BT], theirs, atol=1e-4)
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again.get_vocab() == tokenizer.get_vocab()

    settings = ModelSettings(name=str(tmp_path / "saved"), precision="float32")
    loaded = TextPolicy.load(settings)
    assert loaded.record == {"name": "round-1", "step": 3}
    if lora is None:
        assert torch.equal(loaded.evaluate(inputs).logprobs_BT, mine)
        for name, tensor in policy.trainable_state().items():
            assert torch.equal(loaded.trainable_state()[name], tensor)


def test_saving_again_replaces_and_a_failed_save_leaves_the_old(
    build, tokenizer, tmp_path, monkeypatch
):
    policy = TextPolicy.from_model(build("llama"), tokenizer)
    policy.save(tmp_path / "saved", {"step": 1})
    policy.save(tmp_path / "saved", {"step": 2})
    assert read_record(tmp_path / "saved") == {"step": 2}
    before = everything_under(tmp_path)

    def full_disk(*_args, **_fields):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tokenizer), "save_pretrained", full_disk)
    with pytest.raises(ModelError, match="No space left"):
        policy.save(tmp_path / "saved", {"step": 3})
    assert everything_under(tmp_path) == before
    assert read_record(tmp_path / "saved") == {"step": 2}


def test_bfloat16_masters_are_saved_whole(build, tokenizer, inputs, tmp_path):
    policy = TextPolicy.from_model(build("llama"), tokenizer, precision=torch.bfloat16)
    policy.save(tmp_path / "saved", {})
    settings = ModelSettings(name=str(tmp_path / "saved"), precision="bfloat16")
    loaded = TextPolicy.load(settings)
    assert torch.equal(loaded.evaluate(inputs).logprobs_BT, policy.evaluate(inputs).logprobs_BT)
    for name, tensor in policy.trainable_state().items():
        assert torch.equal(loaded.trainable_state()[name], tensor)
    frozen = TextPolicy.load(settings, trainable=False)
    assert {p.dtype for p in frozen.parameters()} == {torch.bfloat16}
    adapted = TextPolicy.load(settings.model_copy(update={"lora": LoraSettings(rank=2)}), seed=3)
    again = TextPolicy.load(settings.model_copy(update={"lora": LoraSettings(rank=2)}), seed=3)
    for name, tensor in adapted.trainable_state().items():
        assert torch.equal(tensor, again.trainable_state()[name])


def test_broken_folders_are_refused(build, tokenizer, tmp_path):
    policy = TextPolicy.from_model(build("llama"), tokenizer)
    policy.save(tmp_path / "saved", {})
    settings = ModelSettings(name=str(tmp_path / "saved"), precision="float32")
    weights = unsealed(tmp_path / "saved") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        TextPolicy.load(settings)
    assert caught.value.where == str(tmp_path / "saved")
    # Pickled weights are never read, whoever wrote them.
    weights.unlink()
    torch.save(policy.model.state_dict(), tmp_path / "saved" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be loaded"):
        TextPolicy.load(settings)


def test_code_that_comes_with_a_model_is_not_run(build, tokenizer, tmp_path):
    TextPolicy.from_model(build("llama"), tokenizer).save(tmp_path / "saved", {})
    path = unsealed(tmp_path / "saved") / "config.json"
    config = json.loads(path.read_text())
    config["model_type"] = "evil"
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    path.write_text(json.dumps(config))
    (tmp_path / "saved" / "evil.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Config: pass\nclass Model: pass\n"
    )
    with pytest.raises(ModelError, match="cannot be loaded"):
        TextPolicy.load(ModelSettings(name=str(tmp_path / "saved")))
    assert not (tmp_path / "ran").exists()


def test_inputs_of_another_device_are_brought_over(inputs):
    assert inputs.to(torch.device("cpu")) is inputs
    moved = inputs.to(torch.device("meta"))
    assert isinstance(moved, TextInputs)
    assert moved.input_ids_BL.device.type == "meta"
