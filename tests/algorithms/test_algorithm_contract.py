"""What every registered algorithm must do, whatever it is."""

import importlib

import pytest
import torch
from algorithm_rows import T, make_rows
from torch import Tensor

from backflip.algorithms import (
    ALGORITHMS,
    Algorithm,
    OfflineAlgorithm,
    OnlineAlgorithm,
    Outputs,
    ReferencePairBatch,
    Rollouts,
    TrainBatch,
    make_algorithm,
)
from backflip.errors import SettingsError


def noise(number: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(number, T, generator=generator, dtype=torch.float64)


def make_batch(algorithm: Algorithm, number: int = 8) -> TrainBatch:
    rows = make_rows(number)
    if isinstance(algorithm, OfflineAlgorithm):
        reference = rows.logits + 0.3 * noise(number, 1)
        return ReferencePairBatch(inputs=rows, ref_logprobs_BT=reference)
    rollouts = Rollouts(
        samples=[],
        inputs=rows,
        logprobs_BT=rows.logits,
        ref_logprobs_BT=rows.logits + 0.3 * noise(number, 1),
        scores_B=noise(number, 2)[:, 0],
        missing_eos_B=rows.lengths == T,
        values_BT=noise(number, 3),
    )
    assert isinstance(algorithm, OnlineAlgorithm)
    return algorithm.credit(rollouts)[0]


def loss_of(
    algorithm: Algorithm, batch: TrainBatch, logits: Tensor, values: Tensor, limit: int = 10_000
) -> Tensor:
    """Sums of micro-batches over counts of the whole batch, as the learner takes them."""
    totals = batch.totals()
    total = torch.zeros((), dtype=torch.float64)
    for micro in batch.micro_batches(limit):
        width, rows = micro.mask_BT.shape[1], micro.inputs.marks
        outputs = Outputs(logits[rows, :width], None, values[rows, :width])
        for term in algorithm.loss(outputs, micro):
            total = total + term.weight * term.sum / totals[term.unit]
    return total


@pytest.fixture(params=sorted(ALGORITHMS))
def algorithm(request: pytest.FixtureRequest) -> Algorithm:
    return make_algorithm(ALGORITHMS[request.param].settings_type())


def test_its_type_finds_it_and_no_other(algorithm):
    assert type(make_algorithm(algorithm.settings)) is type(algorithm)
    assert ALGORITHMS[algorithm.settings.type] is type(algorithm)


def test_it_belongs_to_a_family_and_names_its_source(algorithm):
    assert isinstance(algorithm, OnlineAlgorithm) != isinstance(algorithm, OfflineAlgorithm)
    text = importlib.import_module(type(algorithm).__module__).__doc__
    assert "et al." in text
    assert "Departures" in text


def test_a_misspelt_setting_is_refused_with_the_nearest(algorithm):
    with pytest.raises(SettingsError, match="did you mean 'optimizer'"):
        type(algorithm.settings).parse({"optimiser": {}})


@pytest.mark.parametrize(
    "name", ["epochs", "batch_size", "steps", "prompts_per_step", "samples_per_prompt"]
)
def test_counts_below_one_are_refused(algorithm, name):
    if name not in type(algorithm.settings).model_fields:
        assert not isinstance(algorithm, OnlineAlgorithm) or name == "batch_size"
        return
    with pytest.raises(SettingsError, match=name):
        type(algorithm.settings).parse({name: 0})


@pytest.mark.parametrize("limit", [1, 7, 20])
def test_loss_does_not_depend_on_micro_batches(algorithm, limit):
    batch = make_batch(algorithm)
    logits = batch.inputs.logits + 0.1 * noise(8, 4)
    values = noise(8, 5)
    whole = loss_of(algorithm, batch, logits, values)
    assert len(list(batch.micro_batches(limit))) > 1
    torch.testing.assert_close(
        loss_of(algorithm, batch, logits, values, limit), whole, rtol=0, atol=1e-12
    )


def test_micro_batches_hold_every_item_once_within_the_limit(algorithm):
    batch = make_batch(algorithm)
    for limit in (1, 7, 20):
        marks = []
        for micro in batch.micro_batches(limit):
            size = int(micro.inputs.lengths.max()) * micro.inputs.num_rows
            assert size <= limit or micro.num_items == 1
            assert micro.mask_BT.shape[1] == int(micro.inputs.lengths.max())
            marks += micro.inputs.marks.tolist()
        assert sorted(marks) == list(range(8))
        if batch.rows_per_item == 2:
            assert all(b == a + 1 for a, b in zip(marks[::2], marks[1::2], strict=True))


def test_loss_ignores_what_is_masked(algorithm):
    batch = make_batch(algorithm)
    logits, values = batch.inputs.logits + 0.1 * noise(8, 4), noise(8, 5)
    clean = loss_of(algorithm, batch, logits, values)
    spoilt = type(batch)(
        **{
            name: value.masked_fill(~batch.mask_BT, 1e6) if name.endswith("_BT") else value
            for name, value in vars(batch).items()
            if value is not None
        }
    )
    dirty = [t.masked_fill(~batch.mask_BT, -1e6) for t in (logits, values)]
    assert float(loss_of(algorithm, spoilt, *dirty)) == pytest.approx(float(clean), abs=1e-12)
    touched = [t.masked_fill(batch.mask_BT, 0.7) for t in (logits, values)]
    assert float(loss_of(algorithm, batch, *touched)) != pytest.approx(float(clean), abs=1e-3)


def test_gradient_is_that_of_finite_differences(algorithm):
    batch = make_batch(algorithm, 4)
    # Near the old policy and the old values: away from the corners of the clipped losses.
    logits = (batch.inputs.logits + 0.02 * noise(4, 4)).requires_grad_()
    old = getattr(batch, "old_values_BT", noise(4, 5))
    values = (old + 0.02 * noise(4, 5)).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda logits, values: loss_of(algorithm, batch, logits, values), (logits, values)
    )
    loss_of(algorithm, batch, logits, values).backward()
    assert float(logits.grad[batch.mask_BT].abs().min()) > 1e-6


def test_state_survives_a_checkpoint(algorithm):
    # With a target, so that a coefficient of the KL moves where an algorithm has one.
    aim = {"kl_target": 1.0} if "kl_target" in type(algorithm.settings).model_fields else {}
    settings = type(algorithm.settings).parse(aim)
    worn, again = make_algorithm(settings), make_algorithm(settings)
    if isinstance(worn, OnlineAlgorithm):
        worn.after_step({"kl": 100.0, "num_samples": 8.0})
    kept = worn.state()
    assert (again.state() != kept) == bool(aim), "only what has moved can be lost"
    again.load_state(kept)
    assert again.state() == kept


def test_state_of_another_algorithm_is_refused(algorithm):
    with pytest.raises((ValueError, KeyError)):
        make_algorithm(algorithm.settings).load_state({"strange": 1.0})
