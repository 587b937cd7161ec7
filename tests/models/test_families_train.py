"""A policy of every family learns through adapters or whole, and is saved as it was trained."""

import pytest
import torch
from brought import SCORED, as_inputs, bring, logprobs_alone
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from backflip.config import LoraSettings, ModelSettings
from backflip.models import TextPolicy, TextScorer
from families import FAMILIES, build_family

ROWS = [[5, 6, 7, 8, 40, 41, 42, 43, 44, 45], [9, 30, 31], [5, 6, 7, 8, 50]]
LORA = LoraSettings(rank=3, alpha=6.0)
NOT_ADAPTED = {"mlp.gate.weight"}
"""Matrices that adapters leave alone: what chooses among experts."""


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


def load(folder, kind=TextPolicy, **fields):
    return kind.load(ModelSettings(name=str(folder), precision="float32", **fields), seed=3)


def disturb(network):
    """Move everything that is trained, as an optimiser would."""
    generator = torch.Generator().manual_seed(3)
    for tensor in network.trainable_state().values():
        tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.2)


def assert_reads_as(policy, plain):
    read = policy.evaluate(as_inputs(ROWS)).logprobs_BT.detach()
    for row, logprobs in zip(ROWS, read, strict=True):
        expected = logprobs_alone(plain, row)
        torch.testing.assert_close(logprobs[: len(expected)].double(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("lora", [None, LORA])
def test_what_was_trained_is_what_is_served_and_saved(family, lora, tmp_path):
    bring(tmp_path / "language", family, "its own")
    policy = load(tmp_path / "language", lora=lora)
    start = policy.evaluate(as_inputs(ROWS)).logprobs_BT.detach()
    disturb(policy)
    moved = policy.evaluate(as_inputs(ROWS)).logprobs_BT.detach()
    assert (moved - start).abs().max() > 0.05
    if lora:
        with policy.reference():
            assert torch.equal(policy.evaluate(as_inputs(ROWS)).logprobs_BT, start)
    served = AutoModelForCausalLM.from_pretrained(tmp_path / "language").eval()
    served.load_state_dict(policy.weights(), strict=True)
    assert_reads_as(policy, served)
    policy.save(tmp_path / "trained", {})
    assert_reads_as(policy, AutoModelForCausalLM.from_pretrained(tmp_path / "trained").eval())
    assert_reads_as(load(tmp_path / "trained"), served)


def test_every_matrix_of_the_blocks_is_adapted_and_nothing_else(family, tokenizer):
    policy = TextPolicy.from_model(
        build_family(family, vocabulary=320),
        tokenizer,
        lora=LoraSettings(rank=2, last_layers=1),
    )
    state = policy.trainable_state()
    layers = {
        name
        for name, parameter in build_family(family, vocabulary=320).named_parameters()
        if ".1." in name and parameter.ndim > 1
    }
    before = {n: t.clone() for n, t in policy.weights().items()}
    disturb(policy)
    changed = {n for n, t in policy.weights().items() if not torch.equal(t, before[n])}
    assert changed == {n for n in layers if not any(n.endswith(rest) for rest in NOT_ADAPTED)}
    assert all(".1." in name and ".lora_" in name for name in state)
    policy.evaluate(as_inputs(ROWS)).logprobs_BT.sum().backward()
    for name, parameter in policy.model.named_parameters():
        assert (parameter.grad is not None) == (".lora_" in name), name
        assert ".lora_" not in name or parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("family", SCORED)
@pytest.mark.parametrize("lora", [None, LORA])
def test_a_scorer_is_saved_as_it_was_trained(family, lora, tmp_path):
    bring(tmp_path / "language", family, "the end")
    scorer = load(tmp_path / "language", TextScorer, lora=lora)
    disturb(scorer)
    with torch.no_grad():
        ours = scorer.scores(as_inputs(ROWS))
    scorer.save(tmp_path / "scorer", {})
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "scorer").eval()
    with torch.no_grad():
        theirs = torch.stack([plain(torch.tensor([row])).logits[0, 0] for row in ROWS])
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)
