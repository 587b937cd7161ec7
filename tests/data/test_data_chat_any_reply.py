"""No words of a reply keep it from being encoded, whatever the template makes of them."""

import random

import pytest
from chat_cases import CHATML, KINDS, LOSSY, TEMPLATES, make_case

from backflip.data import Chat
from backflip.records import Prompt

THOUGHT = "<think>\n\n</think>\n\n"
APART = CHATML.replace(
    "{{ m.content }}",
    "{% if m.role == 'assistant' and '</think>' in m.content %}"
    "<think>\n{{ m.content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') }}"
    "\n</think>\n\n{{ m.content.split('</think>')[-1].lstrip('\n') }}"
    "{% elif m.role == 'assistant' %}<think>\n\n</think>\n\n{{ m.content }}"
    "{% else %}{{ m.content }}{% endif %}",
)
"""Takes a reply apart at the end of a thought and writes its parts anew, as Qwen3's does."""
TAKING = {
    "apart": APART,
    "closed": APART.replace("assistant\n{% endif", f"assistant\n{THOUGHT.rstrip()}{{% endif"),
    "last": CHATML.replace("m.content", "m.content.split('</think>')[-1]"),
    "first": CHATML.replace("m.content", "m.content.split('</think>')[0] | trim"),
    "others": CHATML.replace("m.content", "m.content | replace('ab', 'c')"),
    "refuses": CHATML.replace(
        "{{ m.content }}",
        "{% if '</think>' in m.content %}{{ raise_exception('a thought') }}{% endif %}"
        "{{ m.content }}",
    ),
    "skips": CHATML.replace("messages %}", "messages if '</think>' not in m.content %}"),
}
ATOMS = [
    *("<think>", "</think>", "<think>", "</think>", "<s>", "</s>", "<unk>", "<pad>"),
    *("<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "<|user|>", "<|end|>", "<|eot_id|>"),
    *("<end_of_turn>", "<|end_header_id|>", "\n", "\n\n", " ", "it", "ab", "é雨", "\ue000", "\t"),
]
NASTY = [
    *("</think>", "<think>", "<think></think>", "</think><think>", "a</think>b</think>c"),
    *("<think>\nhm\n</think>\n\nYes", "hm\n</think>\n\nYes", "<think>\nhm", "\n", ""),
    *("Write <think> and </think> around it.", "</think>" * 9, "<think>" * 9, "ab", " \n\n it"),
]


def replies(seed, number=10):
    source = random.Random(repr(seed))
    yield from NASTY
    for _ in range(number):
        yield "".join(source.choice(ATOMS) for _ in range(source.randint(1, 9)))


def made(kind, template):
    tokenizer = make_case(kind, "chatml" if template in TAKING else template)
    own = tokenizer.chat_template
    tokenizer.chat_template = TAKING.get(template, own)
    chat = Chat(tokenizer)
    tokenizer.chat_template = own
    return chat


def letters(text):
    return "".join(text.split())


@pytest.mark.parametrize("template", [*TEMPLATES, *sorted(TAKING.keys() - TEMPLATES)])
@pytest.mark.parametrize("kind", KINDS)
def test_any_reply_can_be_encoded_whole_and_ends_once(kind, template):
    chat = made(kind, template)
    prompt = Prompt.from_text("Why?")
    for reply in replies((kind, template)):
        for end in (True, False):
            tokens = chat.encode_reply(reply, end=end, prompt=prompt).tolist()
            assert (tokens[-1:] == [chat.end_token]) == end, reply
            assert chat.end_token not in tokens[:-1], reply
            if kind not in LOSSY:
                assert letters(reply) in letters(chat.tokenizer.decode(tokens)), reply


@pytest.mark.parametrize(
    ("template", "reply", "expected"),
    [
        ("apart", "so", f"{THOUGHT}so"),
        ("apart", "hm\n</think>\n\nso", "<think>\nhm\n</think>\n\nso"),
        ("apart", "a</think>b</think>c", f"{THOUGHT}a</think>b</think>c"),
        ("apart", "say <think> and </think>.", f"{THOUGHT}say <think> and </think>."),
        ("closed", "hm\n</think>\n\nso", "\n\nhm\n</think>\n\nso"),  # its prompt has the rest
        ("last", "hm</think>so", "hm</think>so"),
        ("first", "so</think>hm", "so</think>hm"),
        ("refuses", "</think>", "</think>"),
        ("others", "ab", "ab"),
    ],
)
def test_a_reply_that_is_taken_apart_stands_where_a_plain_one_would(template, reply, expected):
    chat = made("gpt2", template)
    assert chat.problems() == []
    for prompt in (None, Prompt.from_text("Why?")):
        tokens = chat.encode_reply(reply, prompt=prompt)
        assert chat.tokenizer.decode(tokens.tolist()) == f"{expected}<|im_end|>"
