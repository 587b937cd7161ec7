"""Token log-probabilities: equal to the plain softmax, and never holding its logits."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from backflip.losses import next_token_loss, token_logprobs


def make(N=7, V=11, D=5, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(N, D, generator=generator, dtype=torch.float64).to(dtype)
    weight = torch.randn(V, D, generator=generator, dtype=torch.float64).to(dtype)
    bias = torch.randn(V, generator=generator, dtype=torch.float64).to(dtype)
    tokens = torch.randint(0, V, (N,), generator=generator)
    return hidden, weight, bias, tokens


def plain(hidden, weight, bias, tokens, temperature, scale=1.0, softcap=None):
    """The same with all logits at once: what must never be done in training."""
    logits = hidden @ weight.T
    if bias is not None:
        logits = logits + bias
    logits = logits * scale
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    logprobs = (logits / temperature).log_softmax(1)
    entropy = -(logprobs.exp() * logprobs).sum(1)
    return logprobs.gather(1, tokens[:, None]).squeeze(1), entropy


@given(
    never=st.sets(st.integers(0, 10), max_size=6),
    chunk=st.integers(1, 12),
    temperature=st.floats(0.3, 3),
    seed=st.integers(0, 1000),
)
def test_ids_that_are_never_drawn_are_as_if_the_vocabulary_had_none_of_them(
    never, chunk, temperature, seed
):
    hidden, weight, bias, tokens = make(seed=seed)
    kept = [number for number in range(11) if number not in never]
    tokens = torch.tensor([kept[int(token) % len(kept)] for token in tokens])
    results = []
    for left_out in (True, False):
        leaves = [x.clone().requires_grad_() for x in (hidden, weight, bias)]
        if left_out:
            logprobs, entropy = token_logprobs(
                hidden_ND=leaves[0],
                weight_VD=leaves[1],
                bias_V=leaves[2],
                tokens_N=tokens,
                temperature=temperature,
                chunk=chunk,
                entropy=True,
                never_M=torch.tensor(sorted(never), dtype=torch.long),
            )
        else:
            places = torch.tensor([kept.index(int(token)) for token in tokens])
            logprobs, entropy = plain(
                leaves[0], leaves[1][kept], leaves[2][kept], places, temperature
            )
        (logprobs.sin().sum() + entropy.cos().sum()).backward()
        results.append([logprobs, entropy, *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def test_a_token_that_is_never_drawn_has_no_log_probability():
    hidden, weight, _, tokens = make()
    with pytest.raises(ValueError, match="never drawn"):
        token_logprobs(hidden_ND=hidden, weight_VD=weight, tokens_N=tokens, never_M=tokens[2:3])


@given(
    N=st.integers(0, 9),
    chunk=st.integers(1, 12),
    temperature=st.floats(0.3, 3),
    with_bias=st.booleans(),
    scale=st.sampled_from([1.0, 0.0625, 3.0]),
    softcap=st.sampled_from([None, 0.5, 30.0]),
    enlarge=st.sampled_from([1.0, 20.0]),
    seed=st.integers(0, 1000),
)
def test_values_and_gradients_equal_the_plain_softmax(
    N, chunk, temperature, with_bias, scale, softcap, enlarge, seed
):
    hidden, weight, bias, tokens = make(N=N, seed=seed)
    hidden = hidden * enlarge
    up, up_entropy = torch.randn(2, N, generator=torch.Generator().manual_seed(seed)).double()
    results = []
    for chunked in (True, False):
        leaves = [x.clone().requires_grad_() for x in (hidden, weight, bias)]
        b = leaves[2] if with_bias else None
        if chunked:
            logprobs, entropy = token_logprobs(
                hidden_ND=leaves[0],
                weight_VD=leaves[1],
                bias_V=b,
                tokens_N=tokens,
                temperature=temperature,
                chunk=chunk,
                entropy=True,
                scale=scale,
                softcap=softcap,
            )
        else:
            logprobs, entropy = plain(*leaves[:2], b, tokens, temperature, scale, softcap)
        ((up * logprobs).sum() + (up_entropy * entropy).sum()).backward()
        gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
        results.append([logprobs.detach(), entropy.detach(), *gradients])
    assert len(results[0]) == (5 if with_bias else 4)
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("entropy", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_gradients_of_token_logprobs(entropy, with_bias, softcap):
    hidden, weight, bias, tokens = make()

    def loss(h, w, b):
        logprobs, entropies = token_logprobs(
            hidden_ND=h, weight_VD=w, bias_V=b if with_bias else None, tokens_N=tokens,
            temperature=0.8, chunk=3, entropy=entropy,
            scale=0.5, softcap=softcap,
        )  # fmt: skip
        return (logprobs, entropies) if entropy else logprobs

    leaves = [x.requires_grad_(with_bias or x is not bias) for x in (hidden, weight, bias)]
    assert gradcheck(loss, leaves)


def test_entropy_alone_has_its_gradient():
    hidden, weight, _, tokens = make()
    for x in (hidden, weight):
        x.requires_grad_()
    _, entropy = token_logprobs(
        hidden_ND=hidden, weight_VD=weight, tokens_N=tokens, entropy=True, chunk=2
    )
    got = torch.autograd.grad(entropy.sum(), (hidden, weight))
    expected = torch.autograd.grad(
        plain(hidden, weight, None, tokens, 1.0)[1].sum(), (hidden, weight)
    )
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("frozen", ["weight", "hidden"])
def test_what_is_frozen_gets_no_gradient(frozen):
    hidden, weight, _, tokens = make()
    hidden.requires_grad_(frozen != "hidden")
    weight.requires_grad_(frozen != "weight")
    logprobs, entropy = token_logprobs(hidden_ND=hidden, weight_VD=weight, tokens_N=tokens, chunk=2)
    assert entropy is None
    logprobs.sum().backward()
    free, still = (hidden, weight) if frozen == "weight" else (weight, hidden)
    (expected,) = torch.autograd.grad(plain(hidden, weight, None, tokens, 1.0)[0].sum(), free)
    torch.testing.assert_close(free.grad, expected)
    assert still.grad is None


def test_the_softmax_is_in_float32_whatever_the_product_is_in():
    V = 50_000
    hidden = torch.zeros(3, 4, dtype=torch.bfloat16)
    weight = torch.ones(V, 4, dtype=torch.bfloat16)
    tokens = torch.tensor([0, 7, V - 1])
    logprobs, entropy = token_logprobs(
        hidden_ND=hidden, weight_VD=weight, tokens_N=tokens, entropy=True, chunk=2
    )
    assert logprobs.dtype == entropy.dtype == torch.float32
    uniform = torch.full((3,), math.log(V))
    torch.testing.assert_close(-logprobs, uniform, rtol=1e-6, atol=0)
    torch.testing.assert_close(entropy, uniform, rtol=1e-5, atol=0)


def test_bfloat16_is_near_float64():
    hidden, weight, _, tokens = make(N=40, V=300, D=16, dtype=torch.bfloat16)
    leaves = [x.clone().requires_grad_() for x in (hidden, weight)]
    got, _ = token_logprobs(hidden_ND=leaves[0], weight_VD=leaves[1], tokens_N=tokens, chunk=7)
    got.sum().backward()
    exact = [x.double().requires_grad_() for x in (hidden, weight)]
    expected, _ = plain(exact[0], exact[1], None, tokens, 1.0)
    expected.sum().backward()
    # A logit of up to 16 is rounded to 8 bits of mantissa: by at most 2^-5, twice.
    assert (got.double() - expected).abs().max() < 2 * 2**-5
    for leaf, true in zip(leaves, exact, strict=True):
        assert leaf.grad.dtype == torch.bfloat16
        error = (leaf.grad.double() - true.grad).norm() / true.grad.norm()
        assert error < 0.01


def test_the_gradient_of_a_bfloat16_weight_adds_up_in_float32():
    N = 2048
    weight = torch.zeros(4, 1, dtype=torch.bfloat16, requires_grad=True)
    logprobs, _ = token_logprobs(
        hidden_ND=torch.ones(N, 1, dtype=torch.bfloat16),
        weight_VD=weight,
        tokens_N=torch.zeros(N, dtype=torch.int64),
        chunk=1,
    )
    logprobs.sum().backward()
    # Each position gives -1/4 to a row that was not chosen; in bfloat16 the sum would stop at -64.
    assert weight.grad.flatten().tolist() == [0.75 * N] + [-0.25 * N] * 3


def test_autocast_means_what_it_means_for_a_linear_layer():
    hidden, weight, _, tokens = make(N=20, V=50, D=8, dtype=torch.float32)
    leaves = [x.clone().requires_grad_() for x in (hidden, weight)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, _ = token_logprobs(hidden_ND=leaves[0], weight_VD=leaves[1], tokens_N=tokens, chunk=6)
    got.sum().backward()  # outside, as training does it
    twins = [x.clone().requires_grad_() for x in (hidden, weight)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = F.linear(twins[0], twins[1])
    assert logits.dtype == torch.bfloat16
    expected = logits.float().log_softmax(1).gather(1, tokens[:, None]).squeeze(1)
    expected.sum().backward()
    torch.testing.assert_close(got, expected)
    for leaf, twin in zip(leaves, twins, strict=True):
        assert leaf.grad.dtype == torch.float32
        torch.testing.assert_close(leaf.grad, twin.grad, rtol=0.02, atol=0.02)


class LargestTensor(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation makes while this is on."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.elements = max(self.elements, leaf.numel())
        return out


@pytest.mark.parametrize("entropy", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_logits_of_the_batch_are_never_held(dtype, entropy):
    N, V, D, chunk = 256, 400, 8, 16
    hidden, weight, bias, tokens = make(N, V, D, dtype)
    leaves = [x.requires_grad_() for x in (hidden, weight, bias)]

    def measure(compute):
        saved: list[int] = []

        def pack(tensor):
            saved.append(tensor.numel())
            return tensor

        with LargestTensor() as largest:
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                logprobs, entropies = compute()
                total = logprobs.sum() + (entropies.sum() if entropy else 0.0)
            total.backward()
        return sum(saved), largest.elements

    kept, largest = measure(
        lambda: token_logprobs(
            hidden_ND=leaves[0], weight_VD=leaves[1], bias_V=leaves[2], tokens_N=tokens,
            chunk=chunk, entropy=entropy,
        )
    )  # fmt: skip
    assert kept <= N * D + V * D + V + 3 * N  # the arguments, and what is one number a token
    assert largest == chunk * V
    # The same instruments see what the plain softmax holds.
    kept, largest = measure(lambda: plain(*leaves, tokens, 1.0))
    assert kept >= N * V
    assert largest == N * V


def test_second_derivatives_are_refused_rather_than_wrong():
    hidden, weight, _, tokens = make()
    hidden.requires_grad_()
    logprobs, _ = token_logprobs(hidden_ND=hidden, weight_VD=weight, tokens_N=tokens)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(logprobs.sum(), hidden, create_graph=True)


def test_wrong_arguments_of_token_logprobs_are_refused():
    hidden, weight, bias, tokens = make()
    good = {"hidden_ND": hidden, "weight_VD": weight, "tokens_N": tokens}
    for fault, message in [
        ({"weight_VD": weight[:, :3]}, "weight_VD has shape"),
        ({"tokens_N": tokens[:-1]}, "tokens_N has shape"),
        ({"bias_V": bias[:-1]}, "bias_V has shape"),
        ({"tokens_N": torch.full_like(tokens, 11)}, "outside the vocabulary of 11"),
        ({"tokens_N": torch.full_like(tokens, -1)}, "outside the vocabulary"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"chunk": 0}, "chunk is 0"),
        ({"softcap": 0.0}, "softcap is 0.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            token_logprobs(**(good | fault))


def test_next_token_loss_is_cross_entropy_of_what_counts():
    hidden, weight, _, tokens = make(N=12)
    mask = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0]]).bool()
    logprobs, _ = token_logprobs(hidden_ND=hidden, weight_VD=weight, tokens_N=tokens)
    total, count = next_token_loss(logprobs_BT=logprobs.view(3, 4), mask_BT=mask)
    targets = tokens.masked_fill(~mask.flatten(), -100)
    expected = F.cross_entropy(hidden @ weight.T, targets, reduction="sum", ignore_index=-100)
    torch.testing.assert_close(total, expected)
    assert count.item() == 6


def test_next_token_loss_does_not_see_what_is_masked():
    leaf = torch.tensor([[-1.0, -2.0, math.nan], [-3.0, -math.inf, math.nan]]).requires_grad_()
    mask = torch.tensor([[True, True, False], [True, False, False]])
    total, count = next_token_loss(logprobs_BT=leaf, mask_BT=mask)
    assert (total.item(), count.item()) == (6, 3)
    total.backward()
    assert leaf.grad.tolist() == [[-1, -1, 0], [-1, 0, 0]]
    parts = [next_token_loss(logprobs_BT=leaf[i : i + 1], mask_BT=mask[i : i + 1]) for i in (0, 1)]
    assert sum(part[0] for part in parts).item() == 6
    assert sum(part[1] for part in parts).item() == 3
    with pytest.raises(ValueError, match=r"not torch\.bool"):
        next_token_loss(logprobs_BT=leaf, mask_BT=mask.float())
    with pytest.raises(ValueError, match="mask_BT has shape"):
        next_token_loss(logprobs_BT=leaf, mask_BT=mask[:, :2])


def test_gradients_of_next_token_loss():
    mask = torch.tensor([[True, False], [True, True]])
    leaf = torch.tensor([[-1.0, -2.0], [-0.5, -3.0]], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: next_token_loss(logprobs_BT=x, mask_BT=mask)[0], leaf)
