"""Replies behind one copy of their prompt: the same states, from fewer tokens."""

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from backflip.config import LoraSettings
from backflip.models import TextInputs, TextPolicy, TextScorer
from backflip.models.probes import reads_shared_rows
from backflip.models.shared import SharedRows

PROMPTS = [[5, 6, 7, 8], [9], [5, 6, 7, 8], [5, 6, 7], [9], [9]]
REPLIES = [[20, 21, 3], [30, 3], [22], [23, 24], [30, 3], []]


@pytest.fixture
def repeated() -> TextInputs:
    """Six rows of three prompts: one the start of another, one reply twice, one without tokens."""
    return TextInputs.of(PROMPTS, REPLIES, pad_id=3)


def read_tokens(model, call) -> int:
    """Tokens, padding with them, that a network was given."""
    seen: list[int] = []

    def count(module, args, kwargs):
        seen.append(kwargs["input_ids"].numel())

    hook = model.base_model.register_forward_pre_hook(count, with_kwargs=True)
    call()
    hook.remove()
    return sum(seen)


def test_rows_are_laid_out_as_described():
    inputs = TextInputs.of([[5, 6], [7], [5, 6]], [[8], [9], [10, 11]], pad_id=0)
    shared = SharedRows.of(inputs)
    assert shared.tokens_GL.tolist() == [[5, 6, 8, 10, 11], [7, 9, 0, 0, 0]]
    assert shared.positions_GL.tolist() == [[0, 1, 2, 2, 3], [0, 1, 0, 0, 0]]
    assert shared.segments_GL.tolist() == [[0, 0, 1, 2, 2], [0, 1, -1, -1, -1]]
    assert shared.mask_G1LL[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 1],
    ]
    rows, places = torch.tensor([0, 0, 2, 2, 1]), torch.tensor([1, 2, 2, 3, 1])
    assert shared.row_B.tolist() == [0, 1, 0]
    assert shared.columns(rows, places).tolist() == [1, 2, 3, 4, 1]


def test_rows_of_different_prompts_stay_as_they_are():
    assert SharedRows.of(TextInputs.of([[5], [5, 6]], [[6, 7], [7]], pad_id=0)) is None


def test_two_rows_do_not_make_all_others_longer():
    """Four rows of six tokens become three of nine: 27 tokens in the place of 24."""
    prompts = [[1, 2, 3], [1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert SharedRows.of(TextInputs.of(prompts, [[10, 11, 12]] * 4, pad_id=0)) is None
    fewer = SharedRows.of(TextInputs.of(prompts[:3], [[10, 11]] * 3, pad_id=0))
    assert fewer.tokens_GL.shape == (2, 7)  # 14 tokens in the place of 15


def one_by_one(network, method, inputs):
    parts = [getattr(network, method)(inputs.select(torch.tensor([i]))) for i in range(6)]
    return [getattr(part, "logprobs_BT", part)[0] for part in parts]


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4)])
@pytest.mark.parametrize("method", ["evaluate", "scores", "values"])
def test_outputs_and_gradients_are_those_of_single_rows(
    method, lora, build, architecture, tokenizer, repeated
):
    """Each row by itself is the slow twin, in float64."""
    kind = TextPolicy if method == "evaluate" else TextScorer
    model = build(architecture).double()
    if kind is TextScorer:
        from transformers import AutoModelForSequenceClassification

        model.config.num_labels = 1
        scorer = AutoModelForSequenceClassification.from_config(model.config).double()
        scorer.base_model.load_state_dict(model.base_model.state_dict())
        model = scorer
    network = kind.from_model(model, tokenizer, lora=lora)
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            generator = torch.Generator().manual_seed(1)
            parameter.data = torch.randn(parameter.shape, generator=generator).to(parameter) / 4
    together = getattr(network, method)(repeated)
    together = getattr(together, "logprobs_BT", together)
    weights = torch.randn(together.shape, generator=torch.Generator().manual_seed(2))
    (together * weights).sum().backward()
    gradients = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    alone = one_by_one(network, method, repeated)
    for row, expected in enumerate(alone):
        length = expected.numel()
        torch.testing.assert_close(
            together[row].reshape(-1)[:length], expected.reshape(-1), rtol=1e-5, atol=1e-6
        )
    sum(
        (a.reshape(-1) * w.reshape(-1)[: a.numel()]).sum()
        for a, w in zip(alone, weights, strict=True)
    ).backward()
    assert gradients
    for name, parameter in network.named_parameters():
        if name in gradients:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-5, atol=1e-6)


def test_a_prompt_is_read_once(build, architecture, tokenizer, repeated):
    policy = TextPolicy.from_model(build(architecture), tokenizer)
    tokens = read_tokens(policy.model, lambda: policy.evaluate(repeated))
    # Three rows, the longest of which is a prompt of four with replies of three and one.
    assert tokens == 3 * 8


def test_only_a_row_of_its_own_has_to_fit_the_positions(build, architecture, tokenizer):
    """The model has 64 positions: two rows of 50 share a row of 90 tokens."""
    policy = TextPolicy.from_model(build(architecture), tokenizer)
    prompt, replies = list(range(5, 15)), [list(range(20, 60)), list(range(60, 100))]
    inputs = TextInputs.of([prompt, prompt], replies, pad_id=3)
    expected = [policy.evaluate(inputs.select(torch.tensor([i]))).logprobs_BT[0] for i in (0, 1)]
    assert read_tokens(policy.model, lambda: policy.evaluate(inputs)) == 90
    torch.testing.assert_close(policy.evaluate(inputs).logprobs_BT, torch.stack(expected))


def test_a_window_over_the_last_tokens_is_not_mistaken(tokenizer, repeated):
    """In a row that is shared, a window would reach into another reply instead of the prompt."""
    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=3,
    )
    model = MistralForCausalLM(config)
    assert not reads_shared_rows(model)
    policy = TextPolicy.from_model(model, tokenizer)
    expected = one_by_one(policy, "evaluate", repeated)
    read = policy.evaluate(repeated).logprobs_BT
    for row, alone in enumerate(expected):
        torch.testing.assert_close(read[row, : len(alone)], alone)


def test_attention_that_takes_no_such_mask_reads_each_row(build, tokenizer):
    model = build("llama")
    assert reads_shared_rows(model)
    model.set_attn_implementation("eager")
    assert not reads_shared_rows(model)
