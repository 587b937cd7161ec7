"""Prompts, samples, annotators and models come back as they were put in."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_helpers import clip_sample, completion_sample

from backflip.errors import DamageError, WorkspaceError
from backflip.records import (
    Clip,
    Completion,
    Dialogue,
    Message,
    Prompt,
    Sample,
    Situation,
    content_id,
)
from backflip.workspace import ModelRecord, Workspace
from backflip.workspace.database import schema

hostile = "bell \x07, bidi \u202e, escape \x1b[31m, Zoë 🙂"


def assert_same(found: Sample, sample: Sample) -> None:
    for field in ("id", "prompt", "model", "weights_version", "seed", "index", "settings"):
        assert getattr(found, field) == getattr(sample, field), field
    assert found.prompt.split == sample.prompt.split
    assert found.content.header() == sample.content.header()
    assert type(found.content) is type(sample.content)
    arrays, expected = found.content.arrays(), sample.content.arrays()
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert arrays[name].dtype == array.dtype, name
        assert arrays[name].shape == array.shape, name
        assert np.array_equal(arrays[name], array, equal_nan=array.dtype.kind == "f"), name


def test_prompts_keep_order_source_and_split(workspace: Workspace) -> None:
    prompts = [
        Prompt.from_text("b", source="one"),
        Prompt.from_text("a", source="two", split="heldout"),
        Prompt(content=Situation(environment="CartPole-v1", seed=3), source="one"),
        Prompt(
            content=Dialogue(
                messages=(
                    Message(role="system", content="Be brief."),
                    Message(role="user", content="Hello\n\x07"),
                )
            )
        ),
    ]
    assert workspace.prompts.add(prompts) == 4
    assert workspace.prompts.add(prompts[::-1]) == 0
    assert workspace.prompts.all() == prompts
    assert workspace.prompts.all(source="one") == [prompts[0], prompts[2]]
    assert workspace.prompts.all(split="heldout") == [prompts[1]]
    wanted = [prompts[2].id, "prompt-none", prompts[0].id]
    assert list(workspace.prompts.get(wanted).items()) == [
        (prompts[2].id, prompts[2]),
        (prompts[0].id, prompts[0]),
    ]


def test_a_heldout_prompt_stays_held_out(workspace: Workspace) -> None:
    heldout = Prompt.from_text("a", split="heldout")
    workspace.prompts.add([heldout])
    workspace.samples.add([Sample.of(Prompt.from_text("a", split="train"), Completion("reply"))])
    assert workspace.prompts.all() == [heldout]


def test_the_same_prompt_twice_in_one_call_counts_once(workspace: Workspace) -> None:
    assert workspace.prompts.add([Prompt.from_text("a"), Prompt.from_text("a")]) == 1


def test_completions_and_clips_come_back_exactly(workspace: Workspace) -> None:
    strided = np.arange(24, dtype=np.float32).reshape(4, 6).T  # memory not in order
    clip = Clip("Pendulum-v1", strided, strided[:5, :2], strided[:5, 0], strided[:5, 1], True, True)
    start = Prompt(content=Situation(environment="Pendulum-v1", seed=0))
    samples = [
        completion_sample(1),
        clip_sample(4),
        Sample.of(start, clip, model="agent-2", seed=2**63 - 1, index=-(2**63)),
        Sample.of(
            Prompt.from_text(hostile),
            Completion(
                text=hostile,
                tokens=np.arange(3, dtype=np.int32),
                logprobs=np.array([np.finfo(np.float32).min, -1e-45, 0], np.float32),
            ),
            settings={"temperature": 0.7, "stop": ["\n"]},
        ),
    ]
    assert workspace.samples.add(samples) == 4
    assert workspace.samples.add(samples) == 0
    found = workspace.samples.get([s.id for s in samples])
    assert list(found) == [s.id for s in samples]
    for sample in samples:
        assert_same(found[sample.id], sample)
    assert [p.id for p in workspace.prompts.all()] == [s.prompt_id for s in samples]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    text=st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    drawn=st.lists(
        st.tuples(st.integers(0, 2**31 - 1), st.floats(max_value=0, width=32, allow_infinity=False))
    ),
    seed=st.integers(-(2**63), 2**63 - 1),
)
def test_any_completion_comes_back(
    workspace: Workspace, text: str, drawn: list[tuple[int, float]], seed: int
) -> None:
    tokens, logprobs = [token for token, _ in drawn], [logprob for _, logprob in drawn]
    completion = Completion(
        text, tokens=np.array(tokens, np.int32), logprobs=np.array(logprobs, np.float32)
    )
    sample = Sample.of(Prompt.from_text(text), completion, seed=seed)
    workspace.samples.add([sample])
    assert_same(workspace.samples.get([sample.id])[sample.id], sample)


def test_samples_by_model_and_prompt(workspace: Workspace) -> None:
    samples = [completion_sample(n, prompt=n % 2, model=f"model-{n // 2}") for n in range(6)]
    workspace.samples.add(samples)
    assert [s.id for s in workspace.samples.of_model("model-1")] == [s.id for s in samples[2:4]]
    of_prompt = workspace.samples.of_prompt(samples[1].prompt_id)
    assert [s.id for s in of_prompt] == [s.id for s in samples[1::2]]
    assert workspace.samples.of_model("none") == []


def test_more_samples_than_a_statement_holds_parameters(workspace: Workspace) -> None:
    samples = [completion_sample(n, prompt=n) for n in range(2300)]
    assert workspace.samples.add(iter(samples)) == 2300
    assert list(workspace.samples.get(s.id for s in reversed(samples))) == [
        s.id for s in reversed(samples)
    ]
    assert len(workspace.samples.of_model("model-1")) == 2300


def test_all_samples_of_a_call_or_none(workspace: Workspace) -> None:
    def broken():
        yield from (completion_sample(n, prompt=n) for n in range(450))
        raise RuntimeError("the sampler died")

    with pytest.raises(RuntimeError, match="sampler died"):
        workspace.samples.add(broken())
    assert workspace.samples.of_model("model-1") == []
    assert workspace.prompts.all() == []


def test_annotators_keep_their_versions(workspace: Workspace) -> None:
    annotators = workspace.annotators
    assert annotators.add("mia")
    assert annotators.add("careful-1", group="teachers", settings={"beta": 20.0})
    assert not annotators.add("careful-1", group="teachers", settings={"beta": 20.0})
    assert not annotators.add("careful-1", group="teachers", settings={"beta": 4.0})
    assert not annotators.add("careful-1", group="teachers")
    assert [(a.name, a.group, a.settings) for a in annotators.all()] == [
        ("mia", "people", {}),
        ("careful-1", "teachers", {"beta": 4.0}),
    ]
    assert [a.settings["beta"] for a in annotators.history("careful-1")] == [20.0, 4.0]


@pytest.mark.parametrize("name", ["", "a\x00b", "a\nb", "\u202eeim"])
def test_a_name_that_hides_something_is_refused(workspace: Workspace, name: str) -> None:
    with pytest.raises(WorkspaceError, match="control characters"):
        workspace.annotators.add(name)
    assert workspace.annotators.all() == []


def model(label: str, **fields: object) -> ModelRecord:
    known = {"id": f"model-{label}", "name": label, "stage": "base", "path": label}
    return ModelRecord.model_validate(known | fields)


def test_models_come_back_exactly(workspace: Workspace) -> None:
    base = model("base", path="/elsewhere/base")
    child = model(
        "sft",
        stage="sft",
        parents=(base.id,),
        run="run-1",
        recipe={"epochs": 1},
        metrics={"loss": float("inf"), "steps": 3},
    )
    assert workspace.models.register(base)
    assert workspace.models.register(child)
    assert workspace.models.all() == [base, child]
    assert workspace.models.get("model-sft") == child
    assert str(workspace.models.folder(base)) == "/elsewhere/base"
    assert workspace.models.folder(child) == workspace.artifacts / "sft"


def test_models_are_found_by_name_and_start_of_id(workspace: Workspace) -> None:
    first = model("policy", id="model-aa1")
    second = model("policy", id="model-aa2", path="p2")
    percent = model("other", id="model-b%c")
    for record in (first, second, percent):
        workspace.models.register(record)
    assert workspace.models.get("policy") == second  # the newest of the name
    assert workspace.models.get("model-aa1") == first
    assert workspace.models.get("model-b") == percent
    with pytest.raises(WorkspaceError, match="may be any of model-aa1, model-aa2"):
        workspace.models.get("model-aa")
    with pytest.raises(WorkspaceError, match="no model '%'"):
        workspace.models.get("%")
    with pytest.raises(WorkspaceError, match="no model ''"):
        workspace.models.get("")


def test_a_model_is_registered_once(workspace: Workspace) -> None:
    record = model("policy", metrics={"kl": 1.0})
    assert workspace.models.register(record)
    assert not workspace.models.register(record.model_copy(update={"metrics": {"kl": 2.0}}))
    assert workspace.models.all() == [record]
    with pytest.raises(WorkspaceError, match="already registered with stage 'base', not 'sft'"):
        workspace.models.register(record.model_copy(update={"stage": "sft"}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"parents": ("model-none",)}, "unknown parent 'model-none'"),
        ({"snapshot": "snapshot-none"}, "no snapshot 'snapshot-none'"),
        ({"path": "../outside"}, "leads out of the artifacts"),
        ({"name": "a\x1bb"}, "control characters"),
    ],
)
def test_a_model_without_its_origin_is_refused(
    workspace: Workspace, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(WorkspaceError, match=message):
        workspace.models.register(model("policy", **fields))
    assert workspace.models.all() == []


@pytest.mark.parametrize("make", [completion_sample, clip_sample])
def test_a_sample_that_is_not_what_was_written_is_named(workspace: Workspace, make) -> None:
    """Any byte of its arrays, its words or where it came from."""
    sample = make(4)
    workspace.samples.add([sample])
    with workspace.database.read() as connection:
        row = connection.execute(sa.select(schema.samples)).mappings().one()
    rng = random.Random(1)
    changes: list[dict[str, Any]] = [
        {"arrays": row["arrays"][: rng.randrange(len(row["arrays"]))]},
        {"arrays": b""},
        {"header": {**row["header"], "type": "nothing"}},
        {"header": {**row["header"], next(iter(sample.content.header())): "other"}},
        {"origin": {**row["origin"], "seed": 5}},
        {"weights_version": 77},
    ]
    for _ in range(40):
        flipped = bytearray(row["arrays"])
        # Behind the header of safetensors, whose spaces and names of types no id speaks of.
        start = 8 + int.from_bytes(flipped[:8], "little")
        flipped[rng.randrange(start, len(flipped))] ^= 1 << rng.randrange(8)
        changes.append({"arrays": bytes(flipped)})
    for change in changes:
        with workspace.database.write("samples") as connection:
            connection.execute(sa.update(schema.samples).values(**change))
        with pytest.raises(DamageError) as caught:
            workspace.samples.get([sample.id])
        assert sample.id in caught.value.what
        assert "backup" in str(caught.value.hint)
        with workspace.database.write("samples") as connection:
            kept = {name: row[name] for name in change}
            connection.execute(sa.update(schema.samples).values(**kept))
    assert_same(workspace.samples.get([sample.id])[sample.id], sample)


def test_samples_named_by_an_older_version_are_read(workspace: Workspace) -> None:
    """Their ids do not tell of the shapes of their arrays."""
    new = completion_sample(4)
    raw = b"".join(array.tobytes() for array in new.content.arrays().values())
    origin = {"model": "model-1", "weights_version": 3, "seed": 7, "index": 4}
    name = content_id("sample", new.prompt.id, new.content.header(), raw, origin)
    workspace.samples.add([replace(new, id=name)])
    assert_same(workspace.samples.get([name])[name], replace(new, id=name))
