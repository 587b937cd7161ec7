"""Replies keep their bits in any company, however a library picks its way to multiply."""

from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode

from backflip.config import SamplingSettings
from backflip.records import Prompt
from backflip.sampling import TextSampler, packed, rounding
from backflip.sampling.rounding import Multiplier, Rounding, by_parts, find_rounding, swapped
from families import build_family

PROMPTS = [
    Prompt.from_text(text) for text in ("a", "Why?", "Hello there.", "zzzzzz", "Tell me more, do.")
]


class Library(TorchFunctionMode):
    """Multiplies in one way or another, by the number of rows; the ways round differently."""

    def __init__(self, way: Callable[[int], int]):
        super().__init__()
        self._way = way

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func not in (linear, torch.addmm):
            return result
        rows = args[0 if func is linear else 1]
        return result * (1 + 1e-5 * self._way(rows.numel() // rows.shape[-1]))


LIBRARIES: dict[str, Callable[[int], int]] = {
    "another way below 16 and from 64 on": lambda rows: (rows >= 16) + (rows >= 64),
    "another way for every number": lambda rows: rows,
}


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(rounding, "_known", {})


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (lambda rows: 0, Rounding(8)),
        (lambda rows: rows < 8, Rounding(8)),
        (lambda rows: rows >= 24, Rounding(32)),
        (lambda rows: rows < 16, Rounding(16)),
        (lambda rows: (rows >= 16) + (rows >= 64), Rounding(16, 48)),
        (lambda rows: rows, Rounding(32, 32)),
    ],
)
def test_as_many_rows_share_a_product_as_are_computed_in_one_way(make_tiny, way, expected):
    def multiply(rows):
        return rows @ torch.ones(4, 4) * (1 + way(len(rows)))

    found = find_rounding(make_tiny("gpt2"), [Multiplier(("one",), 4, lambda: multiply)])
    assert found == expected


def test_the_products_of_a_model_have_one_rounding(make_tiny):
    """The smallest unit that suits all, and the least of what each allows."""
    ways = (lambda n: n < 16, lambda n: n >= 100, lambda n: n >= 60)
    products = [
        Multiplier((i,), 4, lambda way=way: lambda rows: rows + way(len(rows)))
        for i, way in enumerate(ways)
    ]
    assert find_rounding(make_tiny("gpt2"), products) == Rounding(16, 48)


def test_a_place_among_the_rows_that_is_rounded_otherwise_is_seen(make_tiny):
    def multiply(rows):
        return rows + (torch.arange(len(rows)) % 8 == 7)[:, None]

    assert find_rounding(make_tiny("gpt2"), [Multiplier((), 4, lambda: multiply)]).most == 8


def test_a_product_in_parts_is_the_product():
    sizes = []

    def multiply(rows):
        sizes.append(len(rows))
        return rows * 2

    rows = torch.randn(3, 5, 4)
    assert torch.equal(by_parts(multiply, 4)(rows), rows * 2)
    assert sizes == [4, 4, 4, 3]


def test_forward_passes_are_put_back_in_layers(make_tiny):
    """Also where others stood in their place before."""
    model = make_tiny("gpt2")
    layer = model.transformer.h[0].mlp.c_fc
    own = layer.forward
    with swapped({layer: lambda rows: "outer"}):
        with swapped({layer: lambda rows: "inner"}):
            assert layer.forward(None) == "inner"
        assert layer.forward(None) == "outer"
    assert layer.forward == own
    assert "forward" not in layer.__dict__


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("family", ["llama", "gpt2", "falcon", "mixtral"])
def test_a_reply_has_the_same_bits_in_any_company(family, library, byte_tokenizer, monkeypatch):
    monkeypatch.setattr(packed, "LARGEST", 0)  # what is packed, no mode sees
    replies = {}
    with Library(LIBRARIES[library]):
        sampler = TextSampler(build_family(family, vocabulary=259, seed=3), byte_tokenizer)
        for batch_size in (1, 3, 64):
            settings = SamplingSettings(max_tokens=5, batch_size=batch_size)
            drawn = sampler.sample(
                PROMPTS[:: 1 - 2 * (batch_size % 2)], settings, num_samples=8, seed=5
            )
            replies[batch_size] = {(s.prompt_id, s.index): s.completion for s in drawn}
    alone = replies.pop(1)
    assert len({tuple(reply.tokens) for reply in alone.values()}) > 1
    for together in replies.values():
        for place, reply in together.items():
            assert reply.tokens.tolist() == alone[place].tokens.tolist()
            assert reply.logprobs.tolist() == alone[place].logprobs.tolist()
