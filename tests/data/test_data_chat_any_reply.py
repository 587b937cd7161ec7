"""No words of a reply keep it from being encoded, whatever the template makes of them."""

import random

import pytest
from chat_cases import CHATML, KINDS, LOSSY, TEMPLATES, make_case

from backflip.config import ChatSettings
from backflip.data import Chat
from backflip.errors import ModelError
from backflip.records import Dialogue, Message, Prompt

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
LATE = (
    "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>user\n"
    "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n"
    "{% elif m.role == 'assistant' %}<|im_start|>assistant\n{{ m.content }}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Writes a system turn into a user's turn that is the last one, as Mistral's does."""
TAKING = {
    "late": LATE,
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


def made(kind, template, **settings):
    tokenizer = make_case(kind, "chatml" if template in TAKING else template)
    own = tokenizer.chat_template
    tokenizer.chat_template = TAKING.get(template, own)
    chat = Chat(tokenizer, ChatSettings(**settings))
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


ROLES = [
    ("user",),
    ("system", "user"),
    ("user", "assistant", "user"),
    ("system", "user", "assistant", "user"),
]


def asked(roles, words="Why?"):
    return Dialogue(messages=tuple(Message(role=role, content=words) for role in roles))


@pytest.mark.parametrize("system", ["as_is", "first_user"])
@pytest.mark.parametrize("template", [*TEMPLATES, *TAKING])
def test_a_prompt_is_named_as_unanswerable_or_takes_every_reply(template, system):
    chat = made("always", template, system=system)
    unanswerable = []
    for prompt in map(asked, ROLES):
        try:
            chat.encode_prompt(prompt)
        except ModelError:
            continue  # told of every prompt anyway
        told = [error for _, error in chat.unanswerable([prompt])]
        unanswerable += [prompt] * len(told)
        for reply in replies(template, number=0):
            if told:
                with pytest.raises(ModelError, match="does not begin as the prompt does"):
                    chat.encode_reply(reply, prompt=prompt)
            else:
                chat.encode_reply(reply, prompt=prompt)
    late = template == "late" and system == "as_is"
    assert unanswerable == (list(map(asked, (ROLES[1], ROLES[3]))) if late else [])


def test_a_system_turn_that_is_written_late_is_told_once_with_the_way_out():
    chat = made("gpt2", "late")
    prompts = [asked(roles, words) for roles in ROLES for words in ("Why?", "And then?")]
    found = list(chat.unanswerable(prompts))
    assert [prompt for prompt, _ in found] == [prompts[2], prompts[6]]
    assert len(chat.problems(prompts)) == 2
    for _, error in found:
        assert error.what.startswith("a dialogue with its reply does not begin as the prompt does")
        assert 'model.chat.system = "first_user"' in str(error.hint)
    assert "system, user, assistant." in str(found[0][1].hint)
