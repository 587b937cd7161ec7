"""A saved scorer gives a row the same score alone as in a batch its own tokenizer padded."""

import json

import pytest
import torch
from brought import (
    COUNTS_FROM_THE_LEFT,
    SCORED,
    TOKENIZERS,
    as_inputs,
    bring,
    dialogues,
    logprobs_alone,
    one_special_token,
)
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from backflip.config import ModelSettings
from backflip.errors import ModelError
from backflip.models import TextPolicy, TextScorer, save_model
from families import build_family
from unsealed import unsealed


def load(folder, **options):
    return TextScorer.load(ModelSettings(name=str(folder), precision="float32"), **options)


GROWTH = ("none", "the end, spare rows", "beyond the embeddings")
"""Tokenizers that ask three things of a network: one row more, none, and one for what is there."""

BROUGHT = [(f, p) for f in SCORED for p in TOKENIZERS if p in GROWTH or f in ("llama", "gpt2")]


@pytest.mark.parametrize(("family", "padding"), BROUGHT)
def test_alone_and_padded_rows_score_as_ours(family, padding, tmp_path):
    brought = bring(tmp_path / "language", family, padding, left=len(family + padding) % 2 == 1)
    scorer = load(tmp_path / "language", seed=3)
    rows = dialogues(brought)
    with torch.no_grad():
        ours = scorer.scores(as_inputs(rows, scorer.pad_id))
    scorer.save(tmp_path / "scorer", {})

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "scorer")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "scorer").eval()
    assert tokenizer.pad_token_id == plain.config.pad_token_id
    assert tokenizer.pad_token_id < plain.get_input_embeddings().num_embeddings
    assert all(tokenizer.pad_token_id not in row for row in rows)
    sides = ["its own", "right"] + ["left"] * (family not in COUNTS_FROM_THE_LEFT)
    with torch.no_grad():
        alone = [plain(torch.tensor([row])).logits[0, 0] for row in rows]
        torch.testing.assert_close(torch.stack(alone), ours, rtol=1e-4, atol=1e-4)
        for side in sides:
            how = {} if side == "its own" else {"padding_side": side}
            batch = tokenizer.pad({"input_ids": rows}, padding=True, return_tensors="pt", **how)
            together = plain(**batch).logits[:, 0]
            torch.testing.assert_close(together, ours, rtol=1e-4, atol=1e-4, msg=side)
    again = load(tmp_path / "scorer", trainable=False)
    # Where weights lie in memory, read from a file or not, may move the last bits of a product.
    torch.testing.assert_close(
        again.scores(as_inputs(rows, again.pad_id)), ours, rtol=1e-5, atol=1e-5
    )
    assert again.tokenizer.get_vocab() == tokenizer.get_vocab()  # nothing is added twice


def test_the_network_itself_and_what_it_was_made_of_are_left_alone(tmp_path):
    brought = bring(tmp_path, "llama", "none")
    scorer = load(tmp_path)
    before = {name: tensor.clone() for name, tensor in scorer.model.state_dict().items()}
    scorer.save(tmp_path / "scorer", {})
    assert scorer.model.config.vocab_size == len(brought) == 264
    for name, tensor in scorer.model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert brought.pad_token is None


def test_a_scorer_whose_settings_pad_beyond_its_embeddings_is_loaded_and_mended(tmp_path):
    """Transformers alone cannot build a network of such settings."""
    brought = bring(tmp_path / "language", "llama", "none")
    rows = dialogues(brought)
    scorer = load(tmp_path / "language", seed=3)
    scorer.save(tmp_path / "scorer", {})
    ours = scorer.scores(as_inputs(rows))
    config = json.loads((unsealed(tmp_path / "scorer") / "config.json").read_text())
    config["pad_token_id"] = config["vocab_size"]
    (tmp_path / "scorer" / "config.json").write_text(json.dumps(config))
    again = load(tmp_path / "scorer", trainable=False)
    assert torch.equal(again.scores(as_inputs(rows)), ours)
    again.save(tmp_path / "mended", {})
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "mended").eval()
    batch = AutoTokenizer.from_pretrained(tmp_path / "mended").pad(
        {"input_ids": rows}, padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        torch.testing.assert_close(plain(**batch).logits[:, 0], ours, rtol=1e-4, atol=1e-4)


def test_a_policy_pads_rows_with_what_it_has_an_embedding_for(tmp_path):
    brought = bring(tmp_path, "gpt2", "beyond the embeddings")
    policy = TextPolicy.load(ModelSettings(name=str(tmp_path), precision="float32"))
    assert policy.tokenizer.pad_token_id == policy.model.config.vocab_size
    rows = dialogues(brought)
    output = policy.evaluate(as_inputs(rows, policy.pad_id)).logprobs_BT
    for logprobs, row in zip(output, rows, strict=True):
        expected = logprobs_alone(policy.model, row)
        torch.testing.assert_close(logprobs[: len(expected)].double(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "added",
    [{"eos_token": "<|stop|>"}, {"bos_token": "<|stop|>"}, "template", {"pad_token": "<|stop|>"}],
)
def test_tokens_that_every_dialogue_has_need_an_embedding(added, tmp_path):
    tokenizer = one_special_token()
    model = build_family("llama", vocabulary=len(tokenizer))
    if added == "template":
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|stop|>"]})
        tokenizer.chat_template = "{{ messages[0]['content'] + '<|stop|>' }}"
    else:
        tokenizer.add_special_tokens(added)
    save_model(model, tokenizer, tmp_path)
    name = ModelSettings(name=str(tmp_path), precision="float32")
    if added == {"pad_token": "<|stop|>"}:
        TextPolicy.load(name)
        return
    for kind in (TextPolicy, TextScorer):
        with pytest.raises(ModelError, match=r"264 embeddings and none for '<\|stop\|>' \(264\)"):
            kind.load(name)


def test_a_token_without_an_embedding_is_let_pass_until_it_is_read(tmp_path):
    """As the image token of Gemma 3, which its models of text have no row for."""
    tokenizer = one_special_token()
    model = build_family("gemma3_text", vocabulary=len(tokenizer))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    save_model(model, tokenizer, tmp_path)
    policy = TextPolicy.load(ModelSettings(name=str(tmp_path), precision="float32"))
    policy.evaluate(as_inputs([tokenizer.encode("a kettle")]))
    with pytest.raises(ModelError, match="outside the model's vocabulary of 264"):
        policy.evaluate(as_inputs([tokenizer.encode("a <image>")]))


@pytest.mark.parametrize("family", ["cohere", "granite"])
def test_a_family_without_a_classifier_is_refused_as_a_scorer_with_the_reason(family, tmp_path):
    bring(tmp_path, family, "none")
    with pytest.raises(ModelError, match=f"no sequence classification for {family} models"):
        load(tmp_path)
