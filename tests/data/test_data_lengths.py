"""What is too long, what is cut, and where it stands."""

from typing import Any

import pytest

from backflip.data.chat import Chat
from backflip.data.lengths import (
    Limit,
    encode_samples,
    fit_prompts,
    fit_samples,
    shorter_prompts,
)
from backflip.errors import BackflipError, ModelError, SettingsError
from backflip.records import Completion, Dialogue, Message, Prompt, Sample

PLACE = "asked.jsonl:12"


def prompt_of(*turns: tuple[str, str], **fields: Any) -> Prompt:
    messages = tuple(Message.model_validate({"role": r, "content": c}) for r, c in turns)
    return Prompt(content=Dialogue(messages=messages), source=PLACE, **fields)


TALK = (
    ("system", "calm"),
    ("user", "one"),
    ("assistant", "two"),
    ("user", "three"),
    ("tool", "four"),
    ("assistant", "five"),
    ("user", "six"),
    ("tool", "seven"),
)


def limit_of(tokenizer: Any, most: int) -> Limit:
    return Limit(Chat(tokenizer), most, f"so many as {most}", lambda n: f"allow {n}")


def test_the_oldest_turns_go_first_and_the_last_of_the_user_stays():
    cuts = [tuple(m.content for m in p.messages) for p in shorter_prompts(prompt_of(*TALK))]
    assert cuts == [
        ("calm", "three", "four", "five", "six", "seven"),
        ("calm", "six", "seven"),
    ]
    assert list(shorter_prompts(prompt_of(("system", "calm"), ("user", "one")))) == []


def test_a_cut_prompt_has_the_id_of_what_it_says_now(chat_tokenizer):
    prompt = prompt_of(*TALK[1:4], split="heldout")
    assert prompt.id != prompt_of(TALK[3]).id
    (cut,) = list(shorter_prompts(prompt))
    assert cut.id == prompt_of(TALK[3]).id
    assert (cut.split, cut.source) == ("heldout", PLACE)


def test_prompts_that_become_the_same_are_held_out_if_either_is(chat_tokenizer):
    short = prompt_of(TALK[3])
    ((tokens, _),) = encode_samples(Chat(chat_tokenizer), [Sample.of(short, Completion(""))])
    most = len(tokens)
    heldout = prompt_of(*TALK[1:4], split="heldout")
    for prompts in ([short, heldout], [heldout, short]):
        fitted = fit_prompts(prompts, [limit_of(chat_tokenizer, most)], "cut")
        assert [(p.id, p.split) for p in fitted.kept] == [(short.id, "heldout")]
        assert fitted.num_cut == 1


def test_the_tightest_of_two_readers_counts(chat_tokenizer, other_tokenizer):
    prompt = prompt_of(("user", "it rains and shines"))
    sizes = [
        fit_prompts([prompt], [limit_of(t, 999)], "refuse").longest
        for t in (chat_tokenizer, other_tokenizer)
    ]
    assert sizes[0] != sizes[1]
    limits = [limit_of(chat_tokenizer, sizes[0]), limit_of(other_tokenizer, sizes[1] - 1)]
    fitted = fit_prompts([prompt], limits, "refuse")
    (excess,) = fitted.refused
    assert excess.broken == ((limits[1], sizes[1]),)


def faults(tokenizer: Any) -> dict[str, Any]:
    """Ways in which a prompt or a sample cannot be used, each raised where it is met."""
    refused = prompt_of(("user", "a"), ("system", "late"), ("user", "b"))
    sample = Sample.of(prompt_of(("user", "it rains " * 9)), Completion("and shines"))
    return {
        "a template that refuses a sample": lambda: encode_samples(
            Chat(tokenizer), [Sample.of(refused, Completion("x"))]
        ),
        "more than the positions": lambda: encode_samples(Chat(tokenizer), [sample], positions=8),
        "a template that refuses a prompt": fit_prompts(
            [refused], [limit_of(tokenizer, 99)], "drop"
        ).require,
        "a prompt beyond a limit": fit_prompts(
            [sample.prompt], [limit_of(tokenizer, 8)], "refuse"
        ).require,
        "a sample beyond a limit": fit_samples(
            [sample], [limit_of(tokenizer, 8)], "refuse"
        ).require,
    }


def test_errors_name_the_row_of_the_users_file(chat_tokenizer):
    for name, meet in faults(chat_tokenizer).items():
        with pytest.raises((ModelError, SettingsError)) as caught:
            meet()
        error: BackflipError = caught.value
        assert error.where == PLACE, name


def test_what_a_model_said_is_named_beside_the_row():
    prompt = prompt_of(("user", "one"))
    drawn = Sample.of(prompt, Completion("x"), model="model-1")
    assert drawn.place == f"{drawn.id} ({PLACE})"
    assert Sample.of(prompt, Completion("x")).place == PLACE
    builtin = prompt.model_copy(update={"source": "builtin:everyday"})
    assert builtin.place == f"{builtin.id} (builtin:everyday)"
