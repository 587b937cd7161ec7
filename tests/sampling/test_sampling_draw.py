import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from backflip.sampling.draw import BLOCK, draw, uniforms


def cdf(logits):
    """Running sum of the probabilities in float64, from 0 to 1."""
    logits = np.asarray(logits, np.float64)
    weights = np.exp(logits - logits.max())
    return np.concatenate([[0.0], np.cumsum(weights / weights.sum())])


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 1000]),
    st.sampled_from([0.1, 1.0, 6.0]),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 0.9),
)
def test_draw_agrees_with_one_running_sum(seed, size, spread, u, cut):
    generator = np.random.default_rng(seed)
    logits = (generator.normal(size=size) * spread).astype(np.float32)
    logits[generator.random(size) < cut] = -np.inf
    logits[generator.integers(size)] = 0.0
    tokens, logprobs = draw(torch.from_numpy(logits)[None], torch.tensor([u], dtype=torch.float64))
    token, edges = int(tokens[0]), cdf(logits)
    # u lies in the token's stretch of the CDF, whose edges float32 softmax moves by some 1e-7.
    assert edges[token] - 1e-6 <= u <= edges[token + 1] + 1e-6
    assert logits[token] > -np.inf
    shifted = logits.astype(np.float64) - logits.max()
    assert logprobs[0] == pytest.approx(shifted[token] - np.log(np.exp(shifted).sum()), abs=2e-6)


@pytest.mark.parametrize("u", [0.0, 1 - 2**-53])
def test_a_token_without_mass_is_never_drawn(u):
    for size in (5, BLOCK, 2 * BLOCK + 7):
        logits = torch.full((size, size), -np.inf)
        logits.fill_diagonal_(3.0)  # row i can only draw token i
        tokens, logprobs = draw(logits, torch.full((size,), u, dtype=torch.float64))
        assert tokens.tolist() == list(range(size))
        assert logprobs.tolist() == [0.0] * size


def test_unlikely_tokens_have_exact_logprobs():
    # The second token's probability is e^-80: float32 holds it, a sum beside 1 does not.
    tokens, logprobs = draw(torch.tensor([[0.0, -80.0]]), torch.tensor([0.5], dtype=torch.float64))
    assert tokens.tolist() == [0]
    tokens, logprobs = draw(torch.tensor([[-80.0, 0.0]]), torch.tensor([0.0], dtype=torch.float64))
    assert tokens.tolist() == [0]
    assert logprobs[0] == pytest.approx(-80.0)


def test_frequencies_match_the_distribution():
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0, -np.inf])
    u = torch.from_numpy(uniforms(3, "prompt", 0, 20_000))
    tokens, _ = draw(logits.expand(len(u), -1), u)
    counts = np.bincount(tokens.numpy(), minlength=5)
    weights = np.exp(logits.double().numpy())
    expected = weights / weights.sum() * len(u)
    assert counts[4] == 0
    assert stats.chisquare(counts[:4], expected[:4]).pvalue > 1e-3


def test_streams_differ_by_seed_prompt_and_index_and_by_nothing_else():
    base = uniforms(1, "prompt-a", 2, 50)
    np.testing.assert_array_equal(base, uniforms(1, "prompt-a", 2, 50))
    np.testing.assert_array_equal(base[:10], uniforms(1, "prompt-a", 2, 10))
    others = [uniforms(2, "prompt-a", 2, 50), uniforms(1, "prompt-b", 2, 50)]
    others += [uniforms(1, "prompt-a", 3, 50), uniforms(12, "prompt-a", 2, 50)]
    others += [uniforms(-1, "prompt-a", 2, 50), uniforms(1, "prompt-a", 12, 50)]
    assert len({tuple(o) for o in [base, *others]}) == 7


def test_streams_look_uniform_and_independent():
    table = np.stack([uniforms(0, f"prompt-{i}", j, 200) for i in range(10) for j in range(4)])
    assert stats.kstest(table.ravel(), "uniform").pvalue > 1e-3
    correlations = np.corrcoef(table)[np.triu_indices(len(table), 1)]
    assert np.abs(correlations).max() < 0.35  # 780 pairs; a standard deviation is 0.07
