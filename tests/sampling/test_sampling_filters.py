import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backflip.sampling import filters
from backflip.sampling.filters import filtered, keep_min_p, keep_top_k, keep_top_p, scale

# Logits on a coarse grid, so that ties are common: bfloat16 models produce them all the time.
rows = st.lists(st.integers(-12, 12).map(lambda n: n / 4), min_size=1, max_size=30)


def probabilities(logits):
    """Softmax, one number at a time."""
    weights = [math.exp(x) if x > -math.inf else 0.0 for x in logits]
    return [w / sum(weights) for w in weights]


def slow_filtered(logits, temperature, top_k, top_p, min_p):
    """The filters as plain loops over one row, in Python's float64."""
    row = [x / temperature for x in logits]
    if top_k:
        kth = sorted(row, reverse=True)[min(top_k, len(row)) - 1]
        row = [x if x >= kth else -math.inf for x in row]
    if top_p < 1:
        share = dict(zip(range(len(row)), probabilities(row), strict=True))
        mass, edge = 0.0, -math.inf
        for token in sorted(share, key=lambda i: -row[i]):
            mass, edge = mass + share[token], row[token]
            if mass >= top_p:
                break
        row = [x if x >= edge else -math.inf for x in row]
    if min_p:
        share = probabilities(row)
        floor = min_p * max(share)
        row = [x if p >= floor else -math.inf for x, p in zip(row, share, strict=True)]
    return row


@settings(max_examples=300, deadline=None)
@given(
    rows,
    st.sampled_from([0.25, 1.0, 2.0]),
    st.integers(0, 31),
    # Shares that no sum of a few softmax terms meets exactly, so rounding decides nothing.
    st.sampled_from([0.1237, 0.5011, 0.9003, 0.99017, 1.0]),
    st.sampled_from([0.0, 0.0513, 0.3017, 0.9777]),
)
def test_filters_agree_with_plain_loops(row, temperature, top_k, top_p, min_p):
    got = filtered(
        torch.tensor([row]), temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p
    )
    expected = slow_filtered(row, temperature, top_k, top_p, min_p)
    np.testing.assert_allclose(got[0].numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("keep", [keep_top_k, keep_top_p, keep_min_p])
def test_each_filter_alone_cuts_something(keep):
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    share = {keep_top_k: 2, keep_top_p: 0.7, keep_min_p: 0.2}[keep]
    # softmax is 0.64, 0.24, 0.09, 0.03: two tokens pass each of the three.
    assert keep(logits, share).isinf().tolist() == [[False, False, True, True]]


def test_ties_with_the_last_token_kept_are_kept():
    tied = torch.tensor([[1.0, 0.0, 1.0, 1.0, -5.0]])
    assert keep_top_k(tied, 2).isinf().tolist() == [[False, True, False, False, True]]
    assert keep_top_p(tied, 0.1).isinf().tolist() == [[False, True, False, False, True]]


def test_a_nucleus_wider_than_the_guess_is_found(monkeypatch):
    logits = torch.randn(6, 300, generator=torch.Generator().manual_seed(0))
    logits[:3] *= 20  # three rows whose nucleus is small, three whose is not
    whole = keep_top_p(logits, 0.9)
    monkeypatch.setattr(filters, "NUCLEUS_GUESS", 4)
    assert torch.equal(keep_top_p(logits, 0.9), whole)
    expected = [slow_filtered(r, 1.0, 0, 0.9, 0.0) for r in logits.double().tolist()]
    np.testing.assert_allclose(whole.numpy(), expected, rtol=1e-6)


def test_off_filters_return_the_logits_untouched():
    logits = torch.randn(3, 7, generator=torch.Generator().manual_seed(1))
    assert filtered(logits, temperature=1.0) is logits


def test_temperature_must_be_positive():
    with pytest.raises(ValueError, match="above 0"):
        scale(torch.zeros(1, 2), 0.0)
