"""Prompts: read from anywhere, and a held-out share that stays the same."""

import gzip
import json

import pytest

from backflip.config import PromptSettings
from backflip.data import builtin_prompts, load_prompts
from backflip.errors import FormatError, SettingsError


def settings(source, heldout=2, limit=None):
    return PromptSettings(source=str(source), heldout=heldout, limit=limit)


def heldout(prompts):
    return {p.id for p in prompts if p.split == "heldout"}


@pytest.fixture
def many(tmp_path):
    path = tmp_path / "many.txt"
    path.write_text("".join(f"Question {i}?\n" for i in range(200)))
    return path


def test_builtin_prompts_load_and_are_no_duplicates():
    assert "everyday" in builtin_prompts()
    for name in builtin_prompts():
        prompts = load_prompts(settings(f"builtin:{name}", heldout=4), seed=0)
        assert len(heldout(prompts)) == 4
        assert len({p.text.strip().lower() for p in prompts}) == len(prompts)
        assert {p.source for p in prompts} == {f"builtin:{name}"}


def test_a_text_file_has_a_prompt_a_line(tmp_path):
    path = tmp_path / "p.txt"
    path.write_bytes(b"\xef\xbb\xbfFirst?\r\n\n  Second?  \nFirst?\nThird?")
    prompts = load_prompts(settings(path, heldout=1), seed=0)
    assert [p.text for p in prompts] == ["First?", "Second?", "Third?"]


def test_a_text_file_may_be_zipped(tmp_path):
    path = tmp_path / "p.txt.gz"
    path.write_bytes(gzip.compress(b"First?\nSecond?\n"))
    prompts = load_prompts(settings(path, heldout=1), seed=0)
    assert [(p.text, p.source) for p in prompts] == [
        ("First?", "p.txt.gz:1"),
        ("Second?", "p.txt.gz:2"),
    ]


def test_rows_hold_texts_or_turns(tmp_path):
    path = tmp_path / "p.jsonl"
    dialogue = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Bye"},
    ]
    answered = [*dialogue, {"role": "assistant", "content": "See you."}]
    rows = [
        {"prompt": "plain"},
        {"prompt": dialogue[:1]},
        {"messages": answered},
        {"instruction": "Add.", "input": "1"},
        {"question": "Why?"},
        {"text": "text"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts = load_prompts(settings(path, heldout=1), seed=0)
    assert [p.messages[-1].content for p in prompts] == [
        "plain",
        "Hi",
        "Bye",
        "Add.\n\n1",
        "Why?",
        "text",
    ]
    assert len(prompts[2].messages) == 3


def test_a_bad_row_is_named(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a"}\n{"title": "b"}\n')
    with pytest.raises(FormatError, match=r"p\.jsonl:2: has no prompt; its fields are title"):
        load_prompts(settings(path, heldout=1), seed=0)


def test_the_heldout_share_depends_on_content_and_seed_alone(many):
    before = load_prompts(settings(many, heldout=20), seed=1)
    assert len(heldout(before)) == 20
    lines = many.read_text().splitlines()
    many.write_text("\n".join(reversed(lines)))
    after = load_prompts(settings(many, heldout=20), seed=1)
    assert heldout(after) == heldout(before)
    assert [p.id for p in after] == [p.id for p in reversed(before)]
    assert heldout(load_prompts(settings(many, heldout=20), seed=2)) != heldout(before)
    # A smaller share is part of a larger one.
    assert heldout(load_prompts(settings(many, heldout=7), seed=1)) < heldout(before)


def test_a_limit_leaves_the_heldout_prompts_and_nests(many):
    whole = load_prompts(settings(many, heldout=20), seed=1)
    some = load_prompts(settings(many, heldout=20, limit=60), seed=1)
    more = load_prompts(settings(many, heldout=20, limit=90), seed=1)
    assert (len(some), len(more)) == (60, 90)
    assert heldout(some) == heldout(more) == heldout(whole)
    assert {p.id for p in some} < {p.id for p in more}
    places = {p.id: i for i, p in enumerate(whole)}
    assert [places[p.id] for p in some] == sorted(places[p.id] for p in some)


def test_prompts_are_read_in_time_that_grows_as_they_do(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("".join(f"{i}?\n" for i in range(30_000)))
    prompts = load_prompts(settings(path, heldout=100, limit=20_000), seed=1)  # not for minutes
    assert (len(prompts), len(heldout(prompts))) == (20_000, 100)


def test_added_prompts_push_few_out_of_the_heldout_share(many):
    before = heldout(load_prompts(settings(many, heldout=50), seed=0))
    with many.open("a") as stream:
        stream.write("".join(f"New {i}?\n" for i in range(20)))
    prompts = load_prompts(settings(many, heldout=50), seed=0)
    new = {p.id for p in prompts if p.text.startswith("New")}
    assert before - heldout(prompts) == before - (heldout(prompts) - new)
    assert len(before - heldout(prompts)) == len(heldout(prompts) & new)


def test_an_environment_gives_starts(many):
    first = load_prompts(settings("env:CartPole-v1", heldout=3, limit=10), seed=5)
    assert len({p.content.seed for p in first}) == 10
    assert all(p.content.environment == "CartPole-v1" for p in first)
    assert all(0 <= p.content.seed < 2**31 for p in first)
    again = load_prompts(settings("env:CartPole-v1", heldout=3, limit=10), seed=5)
    assert again == first
    other = load_prompts(settings("env:CartPole-v1", heldout=3, limit=10), seed=6)
    assert not {p.id for p in other} & {p.id for p in first}


def test_unusable_settings_are_errors(many):
    with pytest.raises(SettingsError, match="no built-in prompts 'everyda'"):
        load_prompts(settings("builtin:everyda"), seed=0)
    with pytest.raises(SettingsError, match="leave none to train on"):
        load_prompts(settings(many, heldout=200), seed=0)
    with pytest.raises(SettingsError, match="60 prompts, of which 60"):
        load_prompts(settings(many, heldout=60, limit=60), seed=0)
    with pytest.raises(SettingsError, match="names no environment"):
        load_prompts(settings("env:"), seed=0)
    with pytest.raises(FormatError, match="no such file"):
        load_prompts(settings("nowhere.jsonl"), seed=0)
