"""Ids by content, and seeds that travel."""

import hashlib
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from backflip.records import (
    Dialogue,
    Message,
    Order,
    Prompt,
    Situation,
    ToolCall,
    content_id,
    derive_seed,
    pick,
)

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-100, 100), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
PARTS = st.lists(st.one_of(JSON, st.binary(max_size=5)), max_size=3)
SEEDS = st.integers(0, 2**63)


def slow_id(prefix: str, *parts: Any) -> str:
    """The id as the documentation of `content_id` tells it, written out."""
    text = b""
    for part in parts:
        raw = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        text += len(raw).to_bytes(8, "big") + raw
    return f"{prefix}-{hashlib.blake2b(text, digest_size=10).hexdigest()}"


class TestContentId:
    @given(PARTS)
    def test_is_the_digest_of_the_parts(self, parts: list[Any]) -> None:
        assert content_id("x", *parts) == slow_id("x", *parts)

    def test_known_ids(self) -> None:
        """Ids lie in databases: a change would orphan every row. The two digests are b2sum's."""
        prompt = Prompt.from_text("Describe a rainy Monday.")
        assert prompt.id == slow_id(
            "prompt",
            {
                "type": "dialogue",
                "messages": [{"role": "user", "content": "Describe a rainy Monday."}],
            },
        )
        assert content_id("prompt") == "prompt-6fa1d8fcfd719046d762"
        assert content_id("x", "a", b"b", {"c": [1, None]}) == "x-138c146c7ef8f50f0641"

    @given(PARTS, PARTS)
    def test_other_parts_have_other_ids(self, a: list[Any], b: list[Any]) -> None:
        if [slow_id("x", part) for part in a] != [slow_id("x", part) for part in b]:
            assert content_id("x", *a) != content_id("x", *b)

    def test_where_one_part_ends_matters(self) -> None:
        assert content_id("x", b"ab", b"c") != content_id("x", b"a", b"bc")
        assert content_id("x", b"ab") != content_id("x", b"ab", b"")

    @given(st.dictionaries(st.text(max_size=3), st.integers(), min_size=2))
    def test_the_order_of_keys_does_not(self, data: dict[str, int]) -> None:
        backwards = dict(reversed(data.items()))
        assert content_id("x", data) == content_id("x", backwards)


class TestPrompt:
    def test_its_id_is_its_content_alone(self) -> None:
        prompt = Prompt.from_text("Hi")
        same = Prompt.from_text("Hi", source="file", split="heldout")
        assert prompt.id == same.id
        assert prompt.id != Prompt.from_text("Hi ").id
        asked = Dialogue(messages=(Message(role="system", content="Hi"),))
        assert prompt.id != Prompt(content=asked).id

    def test_situations_differ_by_seed_and_environment(self) -> None:
        ids = {
            Prompt(content=Situation(environment=name, seed=seed)).id
            for name in ("A-v0", "B-v0")
            for seed in (0, 1)
        }
        assert len(ids) == 4

    @pytest.mark.parametrize(
        "prompt",
        [
            Prompt.from_text("Hi", source="s", split="heldout"),
            Prompt(content=Situation(environment="A-v0", seed=3)),
        ],
    )
    def test_round_trips_through_json(self, prompt: Prompt) -> None:
        back = Prompt.model_validate_json(prompt.model_dump_json())
        assert back == prompt
        assert back.id == prompt.id

    def test_text_for_a_reader(self) -> None:
        turns = (
            Message(role="system", content="Be kind."),
            Message(role="user", content="Hi"),
        )
        assert Prompt(content=Dialogue(messages=turns)).text == "System: Be kind.\n\nUser: Hi"
        assert Prompt.from_text("Hi").text == "Hi"
        situation = Prompt(content=Situation(environment="A-v0", seed=3))
        assert situation.text == "A-v0 from seed 3"
        with pytest.raises(TypeError, match="is a situation"):
            _ = situation.messages

    def test_records_are_strict_and_do_not_change(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            Prompt.from_text("Hi").source = "x"
        with pytest.raises(ValidationError, match="Extra inputs"):
            Message.model_validate({"role": "user", "content": "x", "name": "y"})
        with pytest.raises(ValidationError, match="at least 1"):
            Dialogue(messages=())


class TestSeeds:
    def test_known_seeds(self) -> None:
        """A run that is resumed by a newer program must draw what it would have drawn."""
        digest = hashlib.blake2b(b"0/rollout/3", digest_size=8).digest()
        assert derive_seed(0, "rollout", 3) == int.from_bytes(digest, "big") // 2

    @given(SEEDS, st.text(), st.integers())
    def test_fits_every_generator(self, seed: int, name: str, number: int) -> None:
        assert 0 <= derive_seed(seed, name, number) < 2**63

    def test_paths_and_seeds_differ(self) -> None:
        found = {
            derive_seed(seed, *path)
            for seed in range(50)
            for path in ((), ("a",), ("b",), ("a", 0), ("a", 1), ("a", "x", 2))
        }
        assert len(found) == 300

    def test_is_the_same_in_every_process(self) -> None:
        code = "from backflip.records import derive_seed; print(derive_seed(7, 'a', 1))"
        out = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": "5"},
        )
        assert int(out.stdout) == derive_seed(7, "a", 1)


class TestOrder:
    @given(st.integers(1, 30), SEEDS, st.integers(0, 3))
    def test_each_pass_has_each_once(self, count: int, seed: int, number: int) -> None:
        taken = Order(count, seed).take(number * count, count)
        assert sorted(taken) == list(range(count))

    @given(st.integers(1, 20), SEEDS, st.integers(0, 50), st.lists(st.integers(0, 25), max_size=5))
    def test_is_the_same_however_it_is_cut(
        self, count: int, seed: int, start: int, cuts: list[int]
    ) -> None:
        whole = Order(count, seed).take(start, sum(cuts))
        pieces, place = [], start
        for size in cuts:
            pieces += Order(count, seed).take(place, size)
            place += size
        assert pieces == whole
        assert len(whole) == sum(cuts)

    def test_passes_and_seeds_are_ordered_otherwise(self) -> None:
        order = Order(50, 1)
        assert order.take(0, 50) != order.take(50, 50)
        assert order.take(0, 50) != Order(50, 2).take(0, 50)
        assert order.take(0, 50) != list(range(50))

    def test_no_place_is_favoured(self) -> None:
        """Over many passes every item stands at every place about equally often."""
        count, passes = 4, 3000
        order = Order(count, 3)
        firsts = [order.take(i * count, 1)[0] for i in range(passes)]
        for item in range(count):
            share = firsts.count(item) / passes
            assert abs(share - 1 / count) < 5 * (0.25 * 0.75 / passes) ** 0.5

    def test_nothing_cannot_be_put_in_order(self) -> None:
        with pytest.raises(ValueError, match="nothing"):
            Order(0, 1)

    def test_pick(self) -> None:
        assert pick("abc", [2, 0, 2]) == ["c", "a", "c"]


class TestTools:
    def test_an_absent_field_is_in_no_id(self) -> None:
        """Prompts were stored before turns could call tools."""
        plain = Dialogue(messages=(Message(role="user", content="Hi."),))
        turn = {"role": "user", "content": "Hi."}
        assert plain.model_dump() == {"type": "dialogue", "messages": ({**turn},)}
        assert plain.model_dump(mode="json") == {"type": "dialogue", "messages": [turn]}

    @pytest.mark.parametrize(
        "change",
        [
            {"tool_calls": (ToolCall(name="weather"),)},
            {"tool_calls": (ToolCall(name="weather", arguments={"city": "Ulm"}),)},
            {"tool_calls": (ToolCall(name="weather", id="1"),)},
            {"tool_call_id": "1"},
            {"tool_name": "weather"},
        ],
    )
    def test_every_field_is_in_the_id_and_comes_back(self, change: dict[str, Any]) -> None:
        def asked(**fields: Any) -> Prompt:
            message = Message(role="assistant", content="", **fields)
            return Prompt(content=Dialogue(messages=(message,)))

        assert asked(**change).id != asked().id
        stored = json.loads(asked(**change).content.model_dump_json())
        assert Prompt(content=stored).id == asked(**change).id

    def test_tools_are_in_the_id(self) -> None:
        turns = (Message(role="user", content="Hi."),)
        tool = {"type": "function", "function": {"name": "weather", "parameters": {}}}
        with_tool = Prompt(content=Dialogue(messages=turns, tools=(tool,)))
        assert with_tool.id != Prompt(content=Dialogue(messages=turns)).id
        assert with_tool.tools == (tool,)

    def test_a_reader_sees_the_calls(self) -> None:
        call = ToolCall(name="weather", arguments={"city": "Köln"})
        message = Message(role="assistant", content="I look.", tool_calls=(call,))
        assert message.text == 'I look.\nweather({"city": "Köln"})'
