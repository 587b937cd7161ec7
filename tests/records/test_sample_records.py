"""Samples: named by what they hold, and the same after the store's way there and back."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from backflip.records import Clip, Completion, Prompt, Sample, Situation, content_from

INT, FLOAT = np.dtype(np.int32), np.dtype(np.float32)
LENGTHS = st.integers(0, 5)


@st.composite
def completions(draw: st.DrawFn) -> Completion:
    length = draw(LENGTHS)
    return Completion(
        text=draw(st.text(st.characters(exclude_categories=["Cs"]))),
        prompt_tokens=draw(hnp.arrays(INT, draw(LENGTHS))),
        tokens=draw(hnp.arrays(INT, length)),
        logprobs=draw(hnp.arrays(FLOAT, length)),
        finish=draw(st.sampled_from(["stop", "length", "human"])),
    )


@st.composite
def clips(draw: st.DrawFn) -> Clip:
    steps = draw(LENGTHS)
    shape = draw(st.sampled_from([(), (2,), (2, 3)]))
    return Clip(
        environment=draw(st.text(max_size=5)),
        observations=draw(hnp.arrays(FLOAT, (steps + 1, *shape))),
        actions=draw(st.one_of(hnp.arrays(np.int64, steps), hnp.arrays(FLOAT, (steps, 2)))),
        logprobs=draw(hnp.arrays(FLOAT, steps)),
        rewards=draw(hnp.arrays(FLOAT, steps)),
        terminated=draw(st.booleans()),
        truncated=draw(st.booleans()),
    )


CONTENTS = st.one_of(completions(), clips())
PROMPT = Prompt.from_text("Hi")


def facts(content: Completion | Clip) -> dict[str, Any]:
    """Every attribute, arrays bit for bit."""
    return {
        name: (x.dtype, x.shape, x.tobytes()) if isinstance(x, np.ndarray) else x
        for name, x in vars(content).items()
    }


@given(CONTENTS)
def test_header_and_arrays_hold_the_whole(content: Completion | Clip) -> None:
    """The header through JSON and the arrays apart, as the store keeps them."""
    header = json.loads(json.dumps(content.header()))
    back = content_from(header, content.arrays())
    assert type(back) is type(content)
    assert facts(back) == facts(content)


@given(CONTENTS)
def test_the_same_content_has_the_same_id(content: Completion | Clip) -> None:
    again = content_from(content.header(), {k: v.copy() for k, v in content.arrays().items()})
    fields: dict[str, Any] = {"model": "m", "weights_version": 2, "seed": 3, "index": 1}
    sample = Sample.of(PROMPT, content, **fields)
    assert Sample.of(PROMPT, again, **fields).id == sample.id
    assert sample.id.startswith("sample-")
    # How it was drawn is told beside it and names nothing.
    assert Sample.of(PROMPT, content, settings={"temperature": 2}, **fields).id == sample.id


@pytest.mark.parametrize(
    "change", [{"model": "n"}, {"weights_version": 3}, {"seed": 4}, {"index": 2}]
)
def test_another_origin_is_another_sample(change: dict[str, Any]) -> None:
    fields = {"model": "m", "weights_version": 2, "seed": 3, "index": 1}
    content = Completion(text="Hello")
    sample = Sample.of(PROMPT, content, **fields)
    assert sample.id != Sample.of(PROMPT, content, **(fields | change)).id


def clip(**changes: Any) -> Clip:
    fields: dict[str, Any] = {
        "environment": "A-v0",
        "observations": np.zeros((3, 2), np.float32),
        "actions": np.array([0, 1]),
        "logprobs": np.array([-0.1, -0.2], np.float32),
        "rewards": np.array([1.0, 2.0], np.float32),
        "terminated": False,
        "truncated": True,
    }
    return Clip(**(fields | changes))


def completion(**changes: Any) -> Completion:
    fields: dict[str, Any] = {
        "text": "Hello",
        "prompt_tokens": np.array([1], np.int32),
        "tokens": np.array([5, 6], np.int32),
        "logprobs": np.array([-1.0, -2.0], np.float32),
        "finish": "stop",
    }
    return Completion(**(fields | changes))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (completion(), completion(text="Hello!")),
        (completion(), completion(tokens=np.array([5, 7], np.int32))),
        (completion(), completion(prompt_tokens=np.array([2], np.int32))),
        (completion(), completion(logprobs=np.array([-1.0, -2.5], np.float32))),
        (completion(), completion(finish="length")),
        (clip(), clip(environment="B-v0")),
        (clip(), clip(observations=np.ones((3, 2), np.float32))),
        (clip(), clip(actions=np.array([1, 0]))),
        (clip(), clip(rewards=np.array([2.0, 1.0], np.float32))),
        (clip(), clip(terminated=True)),
        (clip(), clip(truncated=False)),
    ],
)
def test_another_content_is_another_sample(
    one: Completion | Clip, other: Completion | Clip
) -> None:
    assert Sample.of(PROMPT, one).id != Sample.of(PROMPT, other).id


def test_another_prompt_is_another_sample() -> None:
    other = Sample.of(Prompt.from_text("Ho"), completion())
    assert Sample.of(PROMPT, completion()).id != other.id


def test_how_arrays_lie_in_memory_names_nothing() -> None:
    straight = np.arange(6, dtype=np.float32).reshape(3, 2)
    turned = np.asfortranarray(straight)
    assert turned.tobytes("A") != straight.tobytes("A")
    ids = {Sample.of(PROMPT, clip(observations=array)).id for array in (straight, turned)}
    assert len(ids) == 1


def test_what_a_sample_is_of() -> None:
    text = Sample.of(PROMPT, completion())
    acted = Sample.of(Prompt(content=Situation(environment="A-v0", seed=1)), clip())
    assert text.text == text.completion.text == "Hello"
    assert acted.clip.num_steps == acted.content.length == 2
    with pytest.raises(TypeError, match="is a clip, not a completion"):
        _ = acted.text
    with pytest.raises(TypeError, match="is a completion, not a clip"):
        _ = text.clip


def test_cut_off_is_not_ended() -> None:
    assert completion(finish="length").truncated
    assert not completion(finish="stop").truncated
    assert not completion(finish="human").truncated
    assert completion(text="two words").length == 2
