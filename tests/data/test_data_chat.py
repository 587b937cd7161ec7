"""Between messages and tokens: laid end to end they are the dialogue, and nobody forges a turn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backflip.data import (
    Chat,
    decode_reply,
    encode_prompt,
    encode_reply,
    encode_sample,
    end_token,
)
from backflip.errors import ModelError
from backflip.records import Clip, Completion, Message, Prompt, Sample

CONTROL = ("<|start|>", "<|end|>", "<|pad|>")


def user(text):
    return (Message(role="user", content=text),)


def sample_of(tokenizer, prompt, tokens, text, **fields):
    completion = Completion(
        text=text,
        prompt_tokens=encode_prompt(tokenizer, prompt.messages),
        tokens=np.asarray(tokens, np.int32),
        logprobs=np.zeros(len(tokens), np.float32),
        **fields,
    )
    return Sample.of(prompt, completion)


def test_prompt_and_reply_end_to_end_are_the_dialogue_as_the_template_writes_it(chat_tokenizer):
    turns = (
        Message(role="system", content="Be brief."),
        Message(role="user", content="the sun"),
        Message(role="assistant", content="shines"),
        Message(role="user", content="and?"),
    )
    both = np.concatenate(
        [encode_prompt(chat_tokenizer, turns), encode_reply(chat_tokenizer, "it rains")]
    )
    assert both.dtype == np.int32
    assert chat_tokenizer.decode(both.tolist()) == (
        "<|start|>system\nBe brief.<|end|>\n<|start|>user\nthe sun<|end|>\n"
        "<|start|>assistant\nshines<|end|>\n<|start|>user\nand?<|end|>\n"
        "<|start|>assistant\nit rains<|end|>"
    )


@given(
    pieces=st.lists(st.sampled_from([*CONTROL, "the", " ", "\n", "\ue000", "<|", "|>", "é"])),
)
def test_no_text_of_a_user_becomes_a_control_token(chat_tokenizer, pieces):
    text = "x" + "".join(pieces) + "x"
    tokens = encode_prompt(chat_tokenizer, user(text)).tolist()
    names = chat_tokenizer.convert_ids_to_tokens(tokens)
    # The template's own three, and not one more.
    assert [n for n in names if n in CONTROL] == ["<|start|>", "<|end|>", "<|start|>"]
    assert chat_tokenizer.decode(tokens) == f"<|start|>user\n{text}<|end|>\n<|start|>assistant\n"


@given(text=st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(CONTROL))
def test_a_reply_is_its_text_and_one_end_token(chat_tokenizer, text):
    tokens = encode_reply(chat_tokenizer, text)
    end = end_token(chat_tokenizer)
    assert tokens[-1] == end
    assert end not in tokens[:-1]
    assert decode_reply(chat_tokenizer, tokens) == text.strip()  # as the template has it
    np.testing.assert_array_equal(encode_reply(chat_tokenizer, text, end=False), tokens[:-1])


def test_a_base_model_gets_plain_turns(base_tokenizer):
    turns = (Message(role="system", content="Be brief."), *user("the sun <|end|>"))
    tokens = encode_prompt(base_tokenizer, turns).tolist()
    text = "System:\nBe brief.\n\nUser:\nthe sun <|end|>\n\nAssistant:\n"
    assert base_tokenizer.decode(tokens) == text
    assert end_token(base_tokenizer) not in tokens


def test_a_sample_keeps_the_tokens_it_was_drawn_with(chat_tokenizer):
    # Spelt letter by letter, as a policy may sample it and an encoder never would.
    letters = [t for c in "shines" for t in encode_reply(chat_tokenizer, c, end=False)]
    assert len(encode_reply(chat_tokenizer, "shines", end=False)) < len(letters)
    prompt = Prompt.from_text("the sun")
    sample = sample_of(
        chat_tokenizer, prompt, [*letters, end_token(chat_tokenizer)], "shines", finish="stop"
    )
    asked, reply = encode_sample(chat_tokenizer, sample)
    np.testing.assert_array_equal(reply, [*letters, end_token(chat_tokenizer)])
    np.testing.assert_array_equal(asked, encode_prompt(chat_tokenizer, prompt.messages))


def test_a_stop_string_is_in_the_tokens_and_not_in_the_text(chat_tokenizer):
    tokens = encode_reply(chat_tokenizer, "it rains STOP", end=False)
    sample = sample_of(chat_tokenizer, Prompt.from_text("q"), tokens, "it rains ", finish="stop")
    np.testing.assert_array_equal(encode_sample(chat_tokenizer, sample)[1], tokens)


def test_a_sample_of_another_tokenizer_is_encoded_anew(chat_tokenizer, other_tokenizer):
    prompt = Prompt.from_text("the sun shines")
    drawn = encode_reply(other_tokenizer, "and the sun shines")
    sample = sample_of(other_tokenizer, prompt, drawn, "and the sun shines", finish="stop")
    asked, reply = encode_sample(chat_tokenizer, sample)
    np.testing.assert_array_equal(asked, encode_prompt(chat_tokenizer, prompt.messages))
    np.testing.assert_array_equal(reply, encode_reply(chat_tokenizer, "and the sun shines"))
    assert len(reply) < len(drawn)


@pytest.mark.parametrize("tokens", [[5, 99_999], [-1, 5]])
def test_tokens_outside_the_vocabulary_are_never_kept(chat_tokenizer, tokens):
    sample = sample_of(chat_tokenizer, Prompt.from_text("q"), tokens, "the", finish="stop")
    _, reply = encode_sample(chat_tokenizer, sample)
    np.testing.assert_array_equal(reply, encode_reply(chat_tokenizer, "the"))


def test_only_a_reply_that_was_cut_off_has_no_end_token(chat_tokenizer):
    prompt = Prompt.from_text("q")
    human = Sample.of(prompt, Completion(text="the sun"))
    cut = Sample.of(prompt, Completion(text="the sun", finish="length"))
    whole = encode_sample(chat_tokenizer, human)[1]
    assert whole[-1] == end_token(chat_tokenizer)
    np.testing.assert_array_equal(encode_sample(chat_tokenizer, cut)[1], whole[:-1])


def test_turns_that_the_template_refuses_are_named(chat_tokenizer):
    turns = (*user("q"), Message(role="system", content="late"))
    with pytest.raises(ModelError, match="a system turn comes first") as caught:
        encode_prompt(chat_tokenizer, turns)
    assert "user, system" in str(caught.value)


def test_a_tokenizer_without_an_end_token_is_an_error_where_the_template_has_none(chat_tokenizer):
    from copy import deepcopy

    endless = deepcopy(chat_tokenizer)
    endless.eos_token = None
    assert Chat(endless).end_token == endless.convert_tokens_to_ids("<|end|>")
    endless.chat_template = None
    for ask in (encode_reply, lambda tokenizer, _: end_token(tokenizer)):
        with pytest.raises(ModelError, match="no end token"):
            ask(endless, "x")
    assert "the tokenizer has no end token" in Chat(endless).problems()


def test_a_clip_is_not_text(chat_tokenizer):
    clip = Clip("e", np.zeros((2, 1)), np.zeros(1), np.zeros(1), np.zeros(1), True, False)
    prompt = Prompt(content={"type": "situation", "environment": "e", "seed": 0})
    with pytest.raises(TypeError, match="clip"):
        encode_sample(chat_tokenizer, Sample.of(prompt, clip))
