"""AdamW against its paper and torch's own, schedules in closed form, a state kept bit for bit."""

import math

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from backflip.config import OptimizerSettings
from backflip.errors import SettingsError, TrainingError
from backflip.training import Optimizer

TOTAL = 6


def make_parameters(dtype: torch.dtype = torch.float64) -> dict[str, dict[str, nn.Parameter]]:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> nn.Parameter:
        return nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype))

    return {"policy": {"a": drawn(3, 2), "b": drawn(4)}, "value": {"c": drawn(2)}}


def gradient(parameter: Tensor, update: int) -> Tensor:
    """A gradient that depends on where the parameter is and on the update."""
    places = torch.arange(parameter.numel(), dtype=parameter.dtype).view(parameter.shape)
    return parameter.detach().sin() + (places + update).cos()


def run(
    optimizer: Optimizer, parameters: dict[str, dict[str, nn.Parameter]], updates: range
) -> list[float]:
    norms = []
    for update in updates:
        optimizer.zero_grad()
        for named in parameters.values():
            for parameter in named.values():
                parameter.grad = gradient(parameter, update)
        norms.append(optimizer.step())
    return norms


def flat(parameters: dict[str, dict[str, nn.Parameter]]) -> Tensor:
    return torch.cat([p.detach().flatten() for g in parameters.values() for p in g.values()])


def written_down(settings: OptimizerSettings, value_rate: float, updates: int) -> Tensor:
    """Loshchilov and Hutter 2019, algorithm 2, one number at a time."""
    parameters = make_parameters()
    state: dict[str, list[tuple[float, float]]] = {}
    for t in range(1, updates + 1):
        gradients = {
            (g, n): gradient(p, t - 1) for g, named in parameters.items() for n, p in named.items()
        }
        norm = math.sqrt(sum(float((x * x).sum()) for x in gradients.values()))
        shrink = 1.0
        if settings.max_grad_norm is not None:
            shrink = min(1.0, settings.max_grad_norm / (norm + 1e-6))
        warm = min(t / settings.warmup_steps, 1.0) if settings.warmup_steps else 1.0
        for (group, name), slope in gradients.items():
            base = value_rate if group == "value" else settings.learning_rate
            decay = 0.0 if group == "value" else settings.weight_decay
            parameter = parameters[group][name]
            seen = state.setdefault(f"{group}.{name}", [(0.0, 0.0)] * parameter.numel())
            for i, (x, g) in enumerate(zip(parameter.flatten(), slope.flatten(), strict=True)):
                g = float(g) * shrink
                m = settings.beta1 * seen[i][0] + (1 - settings.beta1) * g
                v = settings.beta2 * seen[i][1] + (1 - settings.beta2) * g * g
                seen[i] = (m, v)
                m, v = m / (1 - settings.beta1**t), v / (1 - settings.beta2**t)
                step = m / (math.sqrt(v) + settings.epsilon) + decay * x.item()
                parameter.data.flatten()[i] = x.item() - warm * base * step
    return flat(parameters)


@pytest.mark.parametrize("max_grad_norm", [None, 0.7])
def test_updates_are_those_of_the_paper(max_grad_norm):
    settings = OptimizerSettings(
        learning_rate=0.05,
        weight_decay=0.2,
        beta1=0.8,
        beta2=0.95,
        epsilon=1e-3,
        warmup_steps=3,
        max_grad_norm=max_grad_norm,
    )
    parameters = make_parameters()
    optimizer = Optimizer(
        parameters,
        settings,
        total_updates=TOTAL,
        learning_rates={"value": 0.01},
        undecayed={"value"},
    )
    run(optimizer, parameters, range(TOTAL))
    expected = written_down(settings, 0.01, TOTAL)
    torch.testing.assert_close(flat(parameters), expected, rtol=0, atol=1e-12)


def test_updates_are_torchs_own_step_by_step():
    ours, theirs = make_parameters(), make_parameters()
    settings = OptimizerSettings(learning_rate=0.03, weight_decay=0.1, max_grad_norm=None)
    optimizer = Optimizer(ours, settings, total_updates=TOTAL)
    everything = [p for named in theirs.values() for p in named.values()]
    reference = torch.optim.AdamW(everything, lr=0.03, weight_decay=0.1)
    for update in range(TOTAL):
        run(optimizer, ours, range(update, update + 1))
        for parameter in everything:
            parameter.grad = gradient(parameter, update)
        reference.step()
        assert torch.equal(flat(ours), flat(theirs))


def test_the_norm_is_taken_before_clipping_and_over_all_groups():
    parameters = make_parameters()
    optimizer = Optimizer(parameters, OptimizerSettings(max_grad_norm=1e-3), total_updates=1)
    expected = torch.cat(
        [gradient(p, 0).flatten() for g in parameters.values() for p in g.values()]
    )
    (norm,) = run(optimizer, parameters, range(1))
    assert norm == pytest.approx(float(expected.norm()), rel=1e-12)


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [1, 1, 1, 1, 1, 1, 1]),
        ("constant", 4, [0.25, 0.5, 0.75, 1, 1, 1, 1]),
        ("linear", 0, [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0]),
        ("linear", 2, [0.5, 1, 1, 0.75, 0.5, 0.25, 0]),
        ("cosine", 0, [1, *((1 + math.cos(math.pi * i / 6)) / 2 for i in range(1, 6)), 0]),
        ("cosine", 2, [0.5, 1, 1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0]),
        ("cosine", 9, [(i + 1) / 9 for i in range(7)]),
    ],
)
def test_schedules_in_closed_form(schedule, warmup, expected):
    settings = OptimizerSettings(schedule=schedule, warmup_steps=warmup)
    optimizer = Optimizer(make_parameters(), settings, total_updates=6)
    found = [optimizer.schedule(update) for update in range(7)]
    assert found == pytest.approx(expected, abs=1e-15)


def test_the_schedule_is_what_the_rates_follow():
    parameters = {"policy": {"a": nn.Parameter(torch.zeros(1, dtype=torch.float64))}}
    settings = OptimizerSettings(learning_rate=0.1, schedule="linear", epsilon=1e-30)
    optimizer = Optimizer(parameters, settings, total_updates=4)
    moved = []
    for _ in range(5):
        before = parameters["policy"]["a"].item()
        parameters["policy"]["a"].grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()  # a constant gradient moves Adam by the rate itself
        moved.append(before - parameters["policy"]["a"].item())
    assert moved == pytest.approx([0.1, 0.075, 0.05, 0.025, 0.0], abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_state_goes_on_bit_for_bit_through_a_file(dtype):
    settings = OptimizerSettings(learning_rate=0.03, warmup_steps=2, schedule="cosine")
    straight, broken = make_parameters(dtype), make_parameters(dtype)
    run(Optimizer(straight, settings, total_updates=TOTAL), straight, range(TOTAL))
    first = Optimizer(broken, settings, total_updates=TOTAL)
    run(first, broken, range(3))
    kept = load(save({k: v.contiguous() for k, v in first.state_dict().items()}))
    assert int(kept["updates"]) == 3
    second = Optimizer(broken, settings, total_updates=TOTAL)
    second.load_state_dict(kept)
    run(second, broken, range(3, TOTAL))
    assert torch.equal(flat(straight), flat(broken))


def test_a_loaded_state_is_a_copy():
    parameters = make_parameters()
    optimizer = Optimizer(parameters, OptimizerSettings(), total_updates=TOTAL)
    run(optimizer, parameters, range(2))
    kept = {name: tensor.clone() for name, tensor in optimizer.state_dict().items()}
    again = Optimizer(parameters, OptimizerSettings(), total_updates=TOTAL)
    again.load_state_dict(kept)
    before = {name: tensor.clone() for name, tensor in kept.items()}
    run(again, parameters, range(2, 4))
    assert all(torch.equal(before[name], kept[name]) for name in kept)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(value):
    parameters = make_parameters()
    optimizer = Optimizer(parameters, OptimizerSettings(learning_rate=0.1), total_updates=TOTAL)
    run(optimizer, parameters, range(2))
    before = flat(parameters), {k: v.clone() for k, v in optimizer.state_dict().items()}
    for named in parameters.values():
        for parameter in named.values():
            parameter.grad = torch.ones_like(parameter)
    parameters["value"]["c"].grad[1] = value
    with pytest.raises(TrainingError, match="a gradient is not finite"):
        optimizer.step()
    assert torch.equal(before[0], flat(parameters))
    after = optimizer.state_dict()
    assert before[1].keys() == after.keys()
    assert all(torch.equal(before[1][name], after[name]) for name in after)


def test_a_parameter_without_a_gradient_stays():
    parameters = make_parameters()
    settings = OptimizerSettings(learning_rate=0.1, weight_decay=0.5)
    optimizer = Optimizer(parameters, settings, total_updates=TOTAL)
    before = parameters["value"]["c"].detach().clone()
    parameters["policy"]["a"].grad = torch.ones_like(parameters["policy"]["a"])
    optimizer.step()
    assert torch.equal(parameters["value"]["c"], before)
    assert not any(name.startswith("value") for name in optimizer.state_dict())


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 0.02},
        {"weight_decay": 0.1},
        {"beta1": 0.5},
        {"beta2": 0.9},
        {"epsilon": 0.1},
        {"warmup_steps": 5},
        {"schedule": "linear"},
        {"schedule": "cosine"},
        {"max_grad_norm": 0.01},
        {"max_grad_norm": None},
    ],
    ids=str,
)
def test_every_setting_changes_what_is_learned(change):
    results = []
    for extra in ({}, change):
        parameters = make_parameters()
        # Large next to the gradients squared: Adam itself does not see the gradient's scale.
        settings = {"learning_rate": 0.01, "epsilon": 0.05, "max_grad_norm": 1.0, **extra}
        optimizer = Optimizer(parameters, OptimizerSettings(**settings), total_updates=TOTAL)
        run(optimizer, parameters, range(TOTAL))
        results.append(flat(parameters))
    assert float((results[0] - results[1]).abs().max()) > 1e-4


def test_every_field_is_tested_above():
    """`micro_batch_tokens` changes memory alone; the learner's tests count its passes."""
    tested = {
        name
        for mark in test_every_setting_changes_what_is_learned.pytestmark
        for change in mark.args[1]
        for name in change
    }
    assert tested | {"micro_batch_tokens"} == set(OptimizerSettings.model_fields)


def test_nothing_to_train_is_a_mistake():
    with pytest.raises(ValueError, match="no parameters"):
        Optimizer({"policy": {}}, OptimizerSettings(), total_updates=1)


@pytest.mark.parametrize("wrong", [{"learning_rate": 0}, {"beta1": 1.0}, {"max_grad_norm": 0}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        OptimizerSettings.parse(wrong)
