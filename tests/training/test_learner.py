"""One update is one exact step, however it is cut; and a bad one changes nothing."""

import math

import pytest
import torch
from torch import Tensor
from training_networks import ACTIONS, LinearPolicy, LinearValue, Steps, make_steps

from backflip.algorithms import PPO, LossTerm, Outputs, PPOBatch, PPOSettings, TrainBatch
from backflip.config import LoraSettings, OptimizerSettings
from backflip.errors import TrainingError
from backflip.models import TextInputs, TextPolicy
from backflip.training import Learner, LossPart

RATES = OptimizerSettings(learning_rate=0.1, max_grad_norm=0.5, weight_decay=0.03)


def noise(steps: Steps, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(steps.actions.shape, generator=generator, dtype=torch.float64)


def make_batch(number: int = 9, seed: int = 0) -> TrainBatch:
    steps = make_steps(number, seed=seed)
    old = LinearPolicy().evaluate(steps).logprobs_BT.detach()
    return PPOBatch(
        inputs=steps,
        old_logprobs_BT=old + 0.1 * noise(steps, 1),
        old_values_BT=noise(steps, 2),
        advantages_BT=noise(steps, 3),
        returns_BT=noise(steps, 4),
    )


def make_learner(micro_tokens: int = 10_000, **options) -> Learner:
    settings = RATES.model_copy(update={"micro_batch_tokens": micro_tokens})
    return Learner(LinearPolicy(), settings, total_updates=5, value=LinearValue(), **options)


def by_item(outputs: Outputs, batch: TrainBatch) -> list[LossTerm]:
    """A loss that counts rows and not actions: minus the log-probability of a row."""
    total = outputs.logprobs_BT.masked_fill(~batch.mask_BT, 0.0).sum()
    return [LossTerm("row_loss", -total, unit="item", weight=1.0)]


def parts() -> list[LossPart]:
    """Two batches of their own sizes, with losses that count in their own units."""
    ppo = PPO(PPOSettings(entropy_coefficient=0.01))
    return [
        LossPart(make_batch(), ppo.loss, needs=ppo.needs),
        LossPart(TrainBatch(inputs=make_steps(4, seed=7)), by_item, weight=0.3),
    ]


def whole_loss(policy: LinearPolicy, value: LinearValue) -> Tensor:
    """The loss of `parts` written down over whole batches, without the code under test."""
    batch = make_batch()
    mask = batch.mask_BT
    said = policy.evaluate(batch.inputs, entropy=True)
    ratio = (said.logprobs_BT - batch.old_logprobs_BT).exp()
    gain = torch.minimum(ratio * batch.advantages_BT, ratio.clamp(0.8, 1.2) * batch.advantages_BT)
    values = value.values(batch.inputs)
    near = torch.clamp(values, batch.old_values_BT - 0.2, batch.old_values_BT + 0.2)
    squared = torch.maximum((values - batch.returns_BT) ** 2, (near - batch.returns_BT) ** 2) / 2
    first = (-gain + 0.1 * squared - 0.01 * said.entropy_BT)[mask].mean()
    rows = make_steps(4, seed=7)
    logprobs = policy.evaluate(rows).logprobs_BT
    second = -sum(logprobs[i, : int(n)].sum() for i, n in enumerate(rows.lengths)) / 4
    return first + 0.3 * second


def whole_step() -> tuple[LinearPolicy, LinearValue, float, float]:
    """One step of torch's own AdamW on the whole loss."""
    policy, value = LinearPolicy(), LinearValue()
    loss = whole_loss(policy, value)
    loss.backward()
    parameters = [policy.weight, value.weight]
    norm = torch.nn.utils.clip_grad_norm_(parameters, 0.5)
    torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.03).step()
    return policy, value, loss.item(), norm.item()


@pytest.mark.parametrize("micro_tokens", [1, 7, 13, 10_000])
def test_an_update_is_one_step_on_the_whole_batch(micro_tokens):
    learner = make_learner(micro_tokens)
    metrics = learner.update(*parts())
    policy, value, loss, norm = whole_step()
    torch.testing.assert_close(learner.policy.weight, policy.weight, rtol=0, atol=1e-12)
    torch.testing.assert_close(learner.value.weight, value.weight, rtol=0, atol=1e-12)
    assert metrics["loss"] == pytest.approx(loss, abs=1e-12)
    assert metrics["grad_norm"] == pytest.approx(norm, abs=1e-12)


def test_smaller_micro_batches_are_more_passes():
    passes = []
    for micro_tokens in (5, 20, 10_000):
        learner = make_learner(micro_tokens)
        learner.update(parts()[0])
        passes.append(learner.policy.passes)
    assert passes[0] > passes[1] > passes[2] == 1


@pytest.mark.parametrize("micro_tokens", [3, 10_000])
def test_metrics_are_means_over_their_own_unit(micro_tokens):
    metrics = make_learner(micro_tokens).update(*parts())
    rows = make_steps(4, seed=7)
    logprobs = LinearPolicy().evaluate(rows).logprobs_BT.detach()
    assert metrics["row_loss"] == pytest.approx(-float(logprobs[rows.mask_BT].sum()) / 4)
    batch = make_batch()
    entropy = LinearPolicy().evaluate(batch.inputs, entropy=True).entropy_BT.detach()
    assert metrics["entropy"] == pytest.approx(float(entropy[batch.mask_BT].mean()))


def test_a_part_of_weight_zero_changes_nothing_but_is_measured():
    one, both = make_learner(), make_learner()
    first, second = parts()
    one.update(first)
    metrics = both.update(first, LossPart(second.batch, by_item, 0.0))
    assert torch.equal(one.policy.weight, both.policy.weight)
    assert metrics["row_loss"] > 0


def test_value_learning_rate_is_the_value_models_alone():
    usual, slow = make_learner(), make_learner(value_learning_rate=1e-6)
    usual.update(*parts())
    slow.update(*parts())
    assert torch.equal(usual.policy.weight, slow.policy.weight)
    moved = [
        (one.value.weight - LinearValue().weight).detach().abs().max().item()
        for one in (slow, usual)
    ]
    assert 0 < moved[0] < 2e-6
    assert moved[1] > 1e-2


def test_measures_are_put_back_in_the_order_of_the_rows():
    steps = make_steps(7)
    expected = LinearPolicy().evaluate(steps).logprobs_BT.detach().float()
    values = LinearValue().values(steps).detach().float()
    for micro_tokens in (1, 6, 10_000):
        learner = make_learner(micro_tokens, reference=LinearPolicy())
        for found, right in (
            (learner.logprobs(steps), expected),
            (learner.ref_logprobs(steps), expected),
            (learner.values(steps), values),
        ):
            assert torch.allclose(found[steps.mask_BT], right[steps.mask_BT])
            assert not found.requires_grad


def same_state(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    return before.keys() == after.keys() and all(
        torch.equal(before[name], after[name]) for name in before
    )


def snapshot(learner: Learner) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in learner.state_dict().items()}


def spoil(outputs: Outputs, how: str) -> Tensor:
    total = outputs.logprobs_BT.sum()
    if how == "nan loss":
        return total * math.nan
    if how == "infinite loss":
        return total - math.inf
    return (total - total.detach()).abs().sqrt()  # 0, with an infinite slope


@pytest.mark.parametrize("how", ["nan loss", "infinite loss", "nan gradient"])
@pytest.mark.parametrize("micro_tokens", [4, 10_000])
def test_what_is_not_finite_is_refused_and_changes_nothing(how, micro_tokens):
    learner = make_learner(micro_tokens)
    learner.update(*parts())
    before = snapshot(learner)

    def bad(outputs: Outputs, batch: TrainBatch) -> list[LossTerm]:
        return [LossTerm("bad_loss", spoil(outputs, how), weight=1.0)]

    with pytest.raises(TrainingError, match="not finite: training stops") as caught:
        learner.update(parts()[0], LossPart(make_batch(3), bad))
    assert "learning_rate" in caught.value.hint
    assert same_state(before, learner.state_dict())
    twin = make_learner(micro_tokens)
    for one in (learner, twin):
        one.optimizer.zero_grad()
    twin.update(*parts())
    for one in (learner, twin):
        one.update(*parts())
    assert same_state(snapshot(learner), snapshot(twin))


def test_a_loss_without_a_weighted_term_is_a_mistake_of_the_algorithm():
    with pytest.raises(ValueError, match="trains nothing"):
        make_learner().update(LossPart(make_batch(), lambda outputs, batch: []))


def test_a_learner_without_a_value_model_says_so():
    learner = Learner(LinearPolicy(), RATES, total_updates=1)
    with pytest.raises(ValueError, match="no value model"):
        learner.values(make_steps(2))


def test_state_goes_on_bit_for_bit():
    straight, broken = make_learner(), make_learner()
    for _ in range(3):
        straight.update(*parts())
    broken.update(*parts())
    again = make_learner()
    again.policy.weight.data.zero_()
    again.load_state_dict(snapshot(broken))
    for _ in range(2):
        again.update(*parts())
    assert same_state(snapshot(straight), snapshot(again))
    assert straight.state_dict()["optimizer.policy.weight:exp_avg"].shape[0] == ACTIONS


def text_inputs(seed: int = 0) -> TextInputs:
    generator = torch.Generator().manual_seed(seed)
    sizes = [(3, 4), (5, 2), (2, 6)]
    ids = [
        [torch.randint(4, 300, (n,), generator=generator).numpy() for n in size] for size in sizes
    ]
    return TextInputs.of([p for p, _ in ids], [r for _, r in ids], pad_id=0)


def test_the_reference_without_adapters_is_that_of_a_frozen_copy(build_model, tokenizer):
    inputs = text_inputs()
    lora = LoraSettings(rank=2)
    policies = [TextPolicy.from_model(build_model(), tokenizer, lora=lora) for _ in range(2)]
    references = [None, TextPolicy.from_model(build_model(), tokenizer, trainable=False)]
    learners = [
        Learner(p, OptimizerSettings(learning_rate=0.05), total_updates=4, reference=r)
        for p, r in zip(policies, references, strict=True)
    ]
    start = learners[0].logprobs(inputs)
    for _ in range(3):
        for learner in learners:
            learner.update(LossPart(TrainBatch(inputs=inputs), by_item))
    inside, outside = (learner.ref_logprobs(inputs) for learner in learners)
    assert torch.equal(inside, outside)
    assert torch.equal(inside, start)
    assert float((learners[0].logprobs(inputs) - inside).abs().max()) > 0.1
    assert same_state(snapshot(learners[0]), snapshot(learners[1]))
