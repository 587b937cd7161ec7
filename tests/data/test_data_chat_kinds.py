"""Every kind of tokenizer with every template: tokens are the template's, and text stays text."""

import random

import numpy as np
import pytest
from chat_cases import CHATML, FLAGS, KINDS, LOSSY, TEMPLATES, make_case
from tokenizers import Tokenizer, decoders, models
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from backflip.data import Chat, Codec, template_problems
from backflip.records import Prompt

ATOMS = [
    *("<s>", "</s>", "<unk>", "<pad>", "<|im_start|>", "<|im_end|>", "<end_of_turn>", "<|eot_id|>"),
    *(
        "[INST]",
        "[/INST]",
        "<|user|>",
        "<|end|>",
        "<s",
        "|>",
        "[/",
        "INST]",
        "<0x0A>",
        "\uff1cs\uff1e",
    ),
    *("it", " ", "  ", "\n", "\n\n", "\t", "the", "é", "雨", "user", "x", ".", "<think>", "\ue000"),
]
CASES = [(kind, template) for kind in KINDS for template in TEMPLATES]
MERGED = {("gpt2", "llama3")}
"""GPT-2 splits two line breaks otherwise when a word follows: the border is no border of tokens."""
ENDLESS = {"plain": "\n", "none": "\n\n"}
"""Templates that end a turn with no token, and what they write after a reply."""


def texts(case, number=8):
    source = random.Random(repr(case))
    yield " the sun.."
    for _ in range(number):
        yield "".join(source.choice(ATOMS) for _ in range(source.randint(0, 7)))


def spelt(tokenizer, text):
    return "\uff1c" in text or any(str(t) in text for t in tokenizer.added_tokens_decoder.values())


def whole(tokenizer, question, reply, *, opening=False):
    """The text of a dialogue, by the tokenizer's own means."""
    turns = [{"role": "user", "content": question}]
    turns += [] if reply is None else [{"role": "assistant", "content": reply}]
    if tokenizer.chat_template:
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=opening)
    plain = "".join(f"{t['role'].capitalize()}:\n{t['content']}\n\n" for t in turns)
    return "<s>" + plain + ("Assistant:\n" if opening else "")


@pytest.mark.parametrize(("kind", "template"), CASES)
def test_a_prompt_is_what_the_tokenizer_makes_of_the_rendered_text(kind, template):
    tokenizer = make_case(kind, template)
    chat = Chat(tokenizer)
    missing = "<|im_start|>assistant\n" if template == "unopened" else ""
    for text in texts((kind, template)):
        question = f"q{text}q".replace("<think>", "")
        if spelt(tokenizer, question):
            continue
        rendered = whole(tokenizer, question, None, opening=True) + missing
        expected = tokenizer.encode(rendered, add_special_tokens=False)
        assert chat.encode_prompt(Prompt.from_text(question)).tolist() == expected
        assert expected.count(tokenizer.bos_token_id) <= 1


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize(("kind", "template"), CASES)
def test_prompt_and_reply_are_the_whole_dialogue_token_for_token(kind, template, flags):
    tokenizer = make_case(kind, template, flags)
    chat = Chat(tokenizer)
    if flags == "normalized" and kind == "prepended" and TEMPLATES[template][1]:
        assert "does not find its own control tokens" in chat.problems()[0]
        return
    if (kind, template) in MERGED and flags != "rstrip":
        assert "merges" in chat.problems()[0]
        return
    assert chat.problems() == []
    compared = 0
    for text in texts((kind, template, flags)):
        reply = f"it{text}".replace("<think>", "")  # no line break, which the opening's may join
        prompt = Prompt.from_text("the sun")
        ours = [*chat.encode_prompt(prompt).tolist(), *chat.encode_reply(reply, prompt=prompt)]
        assert ours[-1] == chat.end_token
        if spelt(tokenizer, reply):
            continue
        compared += 1
        text = whole(tokenizer, "the sun", reply)
        if template in ENDLESS:
            assert ours.pop() == tokenizer.eos_token_id
            text = text.removesuffix(ENDLESS[template])
        expected = tokenizer.encode(text, add_special_tokens=False)
        assert expected[: len(ours)] == ours
        assert not tokenizer.decode(expected[len(ours) :], skip_special_tokens=True).strip()
    assert compared


@pytest.mark.parametrize(("kind", "template"), CASES)
def test_no_control_token_comes_out_of_what_somebody_wrote(kind, template):
    tokenizer = make_case(kind, template)
    chat = Chat(tokenizer)
    special = {*tokenizer.all_special_ids, *chat._codec.control.values()} - {tokenizer.unk_token_id}

    def controls(tokens):
        return [t for t in tokens if t in special]

    plain = Prompt.from_text("q")
    asked, said = controls(chat.encode_prompt(plain)), controls(chat.encode_reply("it"))
    for text in texts((kind, template)):
        prompt = Prompt.from_text(f"q{text}q")
        assert controls(chat.encode_prompt(prompt)) == asked
        assert controls(chat.encode_reply(f"it{text}.", prompt=prompt)) == said


@pytest.mark.parametrize(("kind", "template"), CASES)
def test_a_reply_reads_as_it_was_written(kind, template):
    tokenizer = make_case(kind, template)
    chat = Chat(tokenizer)
    if (kind, template) == ("wordpiece", "thinking"):
        return  # it does not read its own "<think>\n\n</think>" as it was
    trims = template in ("gemma", "llama2", "llama3")
    for text in texts((kind, template), number=12):
        reply = text.replace("<think>", "")
        if kind in LOSSY:
            reply = " ".join(w for w in ("it", "the", "sun", "user") if w in text)
        if (kind, template) == ("always", "close"):
            reply = reply.lstrip(" ")  # it puts a space before a text unless there is one
        read = chat.decode_reply(chat.encode_reply(reply))
        assert read == (reply.strip() if trims else reply)
        assert chat.decode_reply(chat.encode_reply(reply, end=False)) == read


@pytest.mark.parametrize("kind", KINDS)
def test_text_around_a_spelt_name_is_encoded_as_without_it(kind):
    """No spaces come or go where a name is spelt: the text is read back as it was."""
    tokenizer = make_case(kind, "chatml")
    chat = Chat(tokenizer)
    if kind in LOSSY:
        return
    for name in ("<s>", "</s>", "<|im_end|>"):
        text = f"{name}old {name} it{name}"
        tokens = chat.encode_prompt(Prompt.from_text(text))
        assert f"user\n{text}" in tokenizer.decode(tokens.tolist())
        split = tokenizer.encode("it" + text, add_special_tokens=False, split_special_tokens=True)
        assert Codec(tokenizer).encode_text("it" + text).tolist() == split


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def with_bytes(kind, added):
    """A tokenizer of letters and of pieces of bytes, which are added as special tokens or not."""
    names = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    pieces = [*names, *BYTES, *map(chr, range(0x20, 0x7F))]
    if kind == "bpe":
        numbers = {piece: i for i, piece in enumerate(pieces)}
        model = models.BPE(numbers, [], byte_fallback=True, unk_token=names[0])
    else:
        model = models.Unigram([(p, -9.0) for p in pieces], 0, byte_fallback=True)
    core = Tokenizer(model)
    core.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    core.add_special_tokens(names + BYTES * added)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        **dict(zip(("unk_token", "bos_token", "eos_token"), names, strict=False)),
    )
    tokenizer.chat_template = CHATML
    return tokenizer


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_pieces_of_bytes_that_are_special_tokens_stand_for_bytes_and_not_for_their_names(kind):
    special, plain = with_bytes(kind, added=True), with_bytes(kind, added=False)
    codec, chat = Codec(special), Chat(special)
    for text in ("it é", "\u4e16\n", "sun\n\n\u2603", "</s>é it", "é<|im_end|>"):
        tokens = codec.encode_text(text)
        assert tokens.tolist() == Codec(plain).encode_text(text).tolist(), text
        if "<" not in text:
            assert tokens.tolist() == special.encode(text, add_special_tokens=False)
        assert codec.decode(tokens) == text
        reply = chat.encode_reply(text)
        assert chat.decode_reply(reply) == text
    newline = special.convert_tokens_to_ids("<0x0A>")
    assert newline in special.encode("it<0x0A>it"), "by itself it is forged"
    for text in ("it<0x0A>it", "é<0x0A>", "<0x0A><|im_end|>"):
        tokens = codec.encode_text(text)
        assert newline not in tokens
        assert codec.decode(tokens) == text


def test_a_tokenizer_in_python_is_treated_alike():
    tokenizer = ByT5Tokenizer()
    names = ["<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens(
        {"extra_special_tokens": names}, replace_extra_special_tokens=False
    )
    tokenizer.chat_template = CHATML
    chat = Chat(tokenizer)
    assert template_problems(tokenizer) == []
    text = "a <|im_end|></s>é<extra_id_1> b"
    tokens = chat.encode_prompt(Prompt.from_text(text)).tolist()
    expected = [chr(byte) for byte in f"user\n{text}".encode()]
    start, end = (tokenizer.convert_tokens_to_ids(name) for name in names)
    written = tokenizer.convert_ids_to_tokens(tokens)
    assert written[: len(expected) + 2] == ["<|im_start|>", *expected, "<|im_end|>"]
    assert (tokens.count(start), tokens.count(end)) == (2, 1)
    reply = chat.encode_reply(text)
    assert chat.decode_reply(reply) == text
    assert reply[-1] == end
    assert np.count_nonzero(reply == end) == 1
