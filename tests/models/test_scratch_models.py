import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from backflip.config import ScratchSettings
from backflip.errors import ModelError, SettingsError
from backflip.models import make_model, read_record, save_model, train_tokenizer

TEXTS = ["the cat sat on the mat and the dog sat on the cat"] * 3
SMALL = ScratchSettings(width=32, layers=2, heads=4, key_value_heads=2, max_positions=64)


@pytest.fixture(scope="module")
def learned():
    return train_tokenizer(TEXTS, 300)


@given(text=st.text(max_size=40))
@settings(deadline=None)
def test_any_text_comes_back_from_its_tokens(learned, text):
    ids = learned.encode(text, add_special_tokens=False)
    assert all(0 <= i < len(learned) for i in ids)
    assert learned.decode(ids, skip_special_tokens=False) == text


def test_it_learns_the_words_of_its_text(learned):
    # One merge more than letters: a frequent word is one token, an unseen one is not.
    assert len(learned.encode(" the", add_special_tokens=False)) == 1
    assert len(learned.encode(" xyzzy", add_special_tokens=False)) == 6


def test_vocabulary_is_a_bound_and_streams_are_read_once():
    tokenizer = train_tokenizer(iter(TEXTS), 265)
    assert len(tokenizer) == 265
    assert train_tokenizer(iter(TEXTS), 265).get_vocab() == tokenizer.get_vocab()


def test_special_tokens_are_apart(learned):
    ids = [learned.pad_token_id, learned.bos_token_id, learned.eos_token_id]
    assert len(set(ids)) == 3
    assert learned.encode("a<|im_end|>b", add_special_tokens=False).count(ids[2]) == 1


def test_dialogues_are_written_as_chatml(learned):
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    text = learned.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\nBe kind.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_vocabulary_without_room_for_the_bytes_is_refused():
    with pytest.raises(ModelError, match="259 is too small"):
        train_tokenizer(TEXTS, 259)
    assert len(train_tokenizer(TEXTS, 260)) == 260


def test_weights_are_drawn_from_the_seed_alone(learned):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = make_model(SMALL, learned, 7).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second, other = (make_model(SMALL, learned, seed).state_dict() for seed in (7, 8))
    assert all(torch.equal(first[name], second[name]) for name in first)
    name = "model.layers.1.mlp.up_proj.weight"
    assert not torch.equal(first[name], other[name])


def test_it_has_the_parameters_of_its_settings(learned):
    model = make_model(SMALL, learned, 0)
    width, inner = 32, 88  # 8/3 of 32 is 85.3; the next multiple of 8
    attention = 2 * width * width + 2 * width * (width // 2)  # q, o; k, v of half the heads
    block = attention + 3 * width * inner + 2 * width
    expected = len(learned) * width + 2 * block + width  # tied embedding, blocks, last norm
    assert sum(p.numel() for p in model.parameters()) == expected


def test_an_untrained_model_knows_nothing(learned):
    model = make_model(SMALL, learned, 0)
    ids = torch.arange(4, 60)[None]
    with torch.no_grad():
        logits = model(ids).logits[0, :-1]
    loss = torch.nn.functional.cross_entropy(logits, ids[0, 1:])
    assert abs(float(loss) - math.log(len(learned))) < 0.2


def test_it_is_read_back_as_it_was(learned, tmp_path):
    model = make_model(SMALL, learned, 0)
    save_model(model, learned, tmp_path / "small", {"stage": "pretrain"})
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "small")
    assert all(torch.equal(t, again.state_dict()[n]) for n, t in model.state_dict().items())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "small")
    assert tokenizer.get_vocab() == learned.get_vocab()
    assert tokenizer.chat_template == learned.chat_template
    assert tokenizer.encode(TEXTS[0]) == learned.encode(TEXTS[0])
    special = (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert special == (learned.pad_token_id, learned.bos_token_id, learned.eos_token_id)
    assert again.config.eos_token_id == again.generation_config.eos_token_id == special[2]
    assert read_record(tmp_path / "small") == {"stage": "pretrain"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 30}, "width 30 is not 4 heads"),
        ({"width": 12}, "width 12 is not 4 heads of an even width"),
        ({"key_value_heads": 3}, "4 heads cannot share 3"),
    ],
)
def test_shapes_that_do_not_divide_are_refused(learned, fields, message):
    with pytest.raises(SettingsError, match=message):
        make_model(SMALL.model_copy(update=fields), learned, 0)
