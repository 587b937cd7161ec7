import pytest
import torch

from backflip.config import ModelSettings
from backflip.errors import ModelError
from backflip.models import (
    TextPolicy,
    TextScorer,
    has_fast_bfloat16,
    pick_device,
    pick_precision,
    save_model,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("feature", ["amx_bf16", "avx512_bf16", "sve_bf16", "bf16"])
def test_bfloat16_is_picked_where_the_processor_has_it(monkeypatch, feature):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, feature: True})
    assert has_fast_bfloat16(CPU)
    assert pick_precision("auto", CPU) == torch.bfloat16


def test_float32_is_picked_where_it_has_not(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": False})
    assert not has_fast_bfloat16(CPU)
    assert pick_precision("auto", CPU) == torch.float32


def test_what_was_asked_for_is_taken(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert pick_precision("bfloat16", CPU) == torch.bfloat16
    assert pick_precision("float32", CPU) == torch.float32


def test_emulated_bfloat16_is_not_taken_for_the_real_one(monkeypatch):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation
    )
    assert pick_precision("auto", CUDA) == torch.float32
    with pytest.raises(ModelError, match="has no bfloat16"):
        pick_precision("bfloat16", CUDA)


def test_a_graphics_processor_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("cpu") == CPU
    with pytest.raises(ModelError, match="no graphics processor") as caught:
        pick_device("cuda")
    assert caught.value.where == "model.device"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("cuda") == CUDA


@pytest.mark.parametrize("kind", [TextPolicy, TextScorer])
def test_models_are_held_where_the_settings_say(monkeypatch, tmp_path, build, tokenizer, kind):
    save_model(build("llama"), tokenizer, tmp_path / "model")
    asked = []

    def pick(device):
        asked.append(device)
        return CPU

    for module in ("policy", "scorer"):
        monkeypatch.setattr(f"backflip.models.{module}.pick_device", pick)
    kind.load(ModelSettings(name=str(tmp_path / "model"), device="cuda"))
    assert asked == ["cuda"]
