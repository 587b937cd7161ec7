"""Packing: nothing is lost, nothing counts twice, and no text sees another."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from backflip.data import pack_dialogues, pack_texts
from backflip.errors import FormatError

END = 1
parts = st.tuples(st.integers(1, 6), st.integers(1, 6))


def numbered(sizes):
    """Dialogues whose tokens are all different, so that each can be found again."""
    fresh = iter(range(2, 10**6))
    return [
        tuple(np.array([next(fresh) for _ in range(n)], np.int32) for n in pair) for pair in sizes
    ]


def segments_of(packed):
    """(row, first, end) of each segment, found token by token."""
    found = []
    for row, segments in enumerate(packed.segments.tolist()):
        start = 0
        for t in range(1, len(segments) + 1):
            if t == len(segments) or segments[t] != segments[start]:
                if segments[start]:
                    found.append((row, start, t))
                start = t
    return found


@given(sizes=st.lists(parts, max_size=20), length=st.integers(12, 30), packing=st.booleans())
def test_every_dialogue_is_there_once_with_its_reply_as_target(sizes, length, packing):
    dialogues = numbered(sizes)
    packed = pack_dialogues(dialogues, length=length, packing=packing)
    found = {}
    for row, start, end in segments_of(packed):
        tokens = tuple(packed.tokens[row, start:end].tolist())
        found[tokens] = packed.mask[row, start:end].tolist()
        assert packed.positions[row, start:end].tolist() == list(range(end - start))
    assert found == {
        (*prompt.tolist(), *reply.tolist()): [False] * len(prompt) + [True] * len(reply)
        for prompt, reply in dialogues
    }
    assert packed.num_targets == sum(len(reply) for _, reply in dialogues)
    padding = packed.segments == 0
    assert not packed.mask[padding].any()
    assert not packed.positions[padding].any()
    if not packing:
        assert packed.num_rows == len(dialogues)


@given(sizes=st.lists(st.integers(2, 12), min_size=1, max_size=7))
def test_rows_are_within_the_bound_of_best_fit_decreasing(sizes):
    length = 12

    def fewest(rest, rooms):
        if not rest:
            return len(rooms)
        first, *others = rest
        options = [
            fewest(others, (*rooms[:i], room - first, *rooms[i + 1 :]))
            for i, room in enumerate(rooms)
            if room >= first
        ]
        return min([*options, fewest(others, (*rooms, length - first))])

    packed = pack_dialogues(numbered([(1, n - 1) for n in sizes]), length=length)
    # 11/9 of the fewest plus 6/9 (Dosa 2007) for first and best fit decreasing alike.
    assert packed.num_rows <= (11 * fewest(tuple(sizes), ()) + 6) / 9


@given(sizes=st.lists(st.integers(0, 25), max_size=10), length=st.integers(2, 12))
def test_every_token_of_a_text_but_its_first_is_a_target_once_after_its_predecessor(sizes, length):
    fresh = iter(range(2, 10**6))
    texts = [np.array([next(fresh) for _ in range(n)], np.int32) for n in sizes]
    packed = pack_texts(iter(texts), length=length, end_token=END)
    wanted = [
        pair
        for text in texts
        if len(text)
        for pair in zip(text.tolist(), [*text.tolist()[1:], END], strict=True)
    ]
    got = []
    for row, start, end in segments_of(packed):
        assert not packed.mask[row, start]
        assert packed.mask[row, start + 1 : end].all()
        tokens = packed.tokens[row, start:end].tolist()
        got += pairwise(tokens)
    assert got == wanted
    if packed.num_rows > 1:  # at most one token of a full row is left empty
        assert (packed.segments[:-1] > 0).sum(axis=1).min() >= length - 1


def test_a_packed_text_gets_the_logits_it_gets_alone():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    model = LlamaForCausalLM(config).eval().double()
    rng = np.random.default_rng(0)
    dialogues = [
        (rng.integers(0, 40, n, np.int32), rng.integers(0, 40, m, np.int32))
        for n, m in [(3, 4), (5, 2), (1, 6), (2, 2)]
    ]
    packed = pack_dialogues(dialogues, length=16)
    assert packed.num_rows < len(dialogues)
    with torch.no_grad():
        logits = model(
            input_ids=torch.from_numpy(packed.tokens).long(),
            position_ids=torch.from_numpy(packed.positions).long(),
            use_cache=False,
        ).logits
        alone = {}
        for prompt, reply in dialogues:
            tokens = np.concatenate([prompt, reply])
            alone[tuple(tokens.tolist())] = model(input_ids=torch.from_numpy(tokens)[None].long())
    assert torch.isfinite(logits).all()
    for row, start, end in segments_of(packed):
        expected = alone[tuple(packed.tokens[row, start:end].tolist())].logits[0]
        torch.testing.assert_close(logits[row, start:end], expected, rtol=1e-9, atol=1e-9)


def test_selected_rows_lose_only_padding():
    packed = pack_dialogues(numbered([(4, 4), (2, 2), (1, 1)]), length=10, packing=False)
    some = packed.select([2, 1])
    assert some.tokens.shape == (2, 4)
    np.testing.assert_array_equal(some.tokens, packed.tokens[[2, 1], :4])
    assert some.num_targets == 3


def test_what_does_not_fit_is_named():
    with pytest.raises(FormatError, match="dialogue 1: 9 tokens do not fit a row of 8"):
        pack_dialogues(numbered([(1, 1), (4, 5)]), length=8)
    with pytest.raises(FormatError, match="dialogue 0: has an empty"):
        pack_dialogues([(np.array([1], np.int32), np.empty(0, np.int32))], length=8)
    with pytest.raises(ValueError, match="no room"):
        pack_texts([], length=1, end_token=END)
