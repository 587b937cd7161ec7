"""Whose tokens a sample's are: drawn ones are kept by who drew them, and by nobody else."""

import json
import random

import numpy as np
import pytest
from chat_cases import KINDS, make_case
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from backflip.data import Chat
from backflip.records import Completion, Prompt, Sample
from backflip.records.door import whole_text

PROMPT = Prompt.from_text("why?")


def drawn(chat, tokens, text=None, *, prompt=PROMPT, finish="stop", **fields):
    """A sample as a sampler makes it of the tokens that it drew."""
    completion = Completion(
        text=whole_text(chat.decode_reply(tokens)) if text is None else text,
        prompt_tokens=chat.encode_prompt(prompt),
        tokens=np.asarray(tokens, np.int32),
        logprobs=np.zeros(len(tokens), np.float32),
        finish=finish,
    )
    return Sample.of(prompt, completion, **fields)


@pytest.mark.parametrize("template", ["chatml", "gemma", "llama2", "thinking", "plain", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_was_drawn_is_kept_token_for_token(kind, template):
    tokenizer = make_case(kind, template)
    chat = Chat(tokenizer, end_tokens=[7])
    source = random.Random(f"{kind} {template}")
    opening = chat.encode_reply("it", end=False).tolist()
    for number in range(12):
        # Half characters, control tokens in the middle, pieces that no text is encoded to.
        tokens = [source.randrange(len(tokenizer)) for _ in range(source.randint(0, 6))]
        tokens = [t for t in tokens if t not in chat.end_tokens]
        tokens = opening[: number % 2] + tokens
        for end in ([], *([t] for t in sorted(chat.end_tokens))):
            if not tokens + end:
                continue
            sample = drawn(chat, tokens + end, finish="stop" if end else "length")
            asked, reply = chat.encode_sample(sample)
            assert reply.tolist() == tokens + end
            np.testing.assert_array_equal(asked, chat.encode_prompt(PROMPT))


def test_a_reply_that_another_program_read_with_other_spaces_is_kept():
    chat = Chat(make_case("always", "llama2"))
    tokens = chat.encode_reply("the sun  shines é")
    for text in (" the sun  shines é", "the sun shines é ", "the sun  shines \ufffd"):
        assert chat.encode_sample(drawn(chat, tokens, text))[1].tolist() == tokens.tolist()


def shuffled(tokenizer, seed=1):
    """A tokenizer whose control tokens and letters are the same, and whose longer pieces are not.

    The two agree on a prompt of letters, and each reads the other's replies as other words.
    """
    data = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = data["model"]["vocab"]
    added = {token["content"] for token in data["added_tokens"]}
    longer = [piece for piece in vocabulary if len(piece) > 1 and piece not in added]
    ids = [vocabulary[piece] for piece in longer]
    random.Random(seed).shuffle(ids)
    vocabulary.update(zip(longer, ids, strict=True))
    core = Tokenizer.from_str(json.dumps(data))
    roles = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    made = PreTrainedTokenizerFast(tokenizer_object=core, **roles)
    made.chat_template = "<|im_start|>{{ messages[0].content }}<|im_end|>" + (
        "{% if messages[1] %}{{ messages[1].content }}<|im_end|>{% endif %}"
    )
    return made


def test_tokens_of_another_vocabulary_that_agrees_on_the_prompt_are_encoded_anew():
    own, other = (Chat(shuffled(make_case("gpt2", "chatml"), seed)) for seed in (1, 2))
    prompt = Prompt.from_text("qvqv")
    np.testing.assert_array_equal(own.encode_prompt(prompt), other.encode_prompt(prompt))
    tokens = other.encode_reply("the sun shines")
    sample = drawn(other, tokens, prompt=prompt)
    assert own.encode_reply("the sun shines").tolist() != tokens.tolist()
    for chat in (own, other):
        _, reply = chat.encode_sample(sample)
        assert chat.decode_reply(reply) == "the sun shines"
    # It ended at once, with a token that is a word of ours.
    word = own.encode_reply("the", end=False)[:1]
    sample = drawn(other, word, "", prompt=prompt)
    assert own.encode_sample(sample)[1].tolist() == [own.end_token]


def test_a_reply_cut_at_a_stop_string_keeps_the_tokens_of_that_string():
    chat = Chat(make_case("gpt2", "chatml"))
    tokens = chat.encode_reply("the sun", end=False)
    for text in ("the", ""):
        sample = drawn(chat, tokens, text, settings={"stop": [" sun", "the"]})
        assert chat.encode_sample(sample)[1].tolist() == tokens.tolist()


def test_a_persons_text_ends_as_the_template_ends_it():
    chat = Chat(make_case("replaced", "gemma"))
    corrected = Sample.of(PROMPT, Completion(text="It rains."))
    reply = chat.encode_sample(corrected)[1]
    assert reply[-1] == chat.tokenizer.convert_tokens_to_ids("<end_of_turn>")
    assert reply[-1] == chat.end_token != chat.tokenizer.eos_token_id
    # A drawn one may end with any of them, and keeps it.
    for end in (chat.end_token, chat.tokenizer.eos_token_id):
        tokens = [*reply[:-1].tolist(), end]
        assert chat.encode_sample(drawn(chat, tokens))[1].tolist() == tokens
