"""DPO's loss by hand, and each setting's effect."""

import math

import pytest
import torch
from algorithm_rows import Rows

from backflip.algorithms import DPO, DPOSettings, Outputs, ReferencePairBatch, TrainBatch
from backflip.errors import SettingsError

CHOSEN = [-1.0, -2.0, -0.5]
REJECTED = [-1.0, -3.0]
REF_CHOSEN = [-2.0, -2.5, -1.0]
REF_REJECTED = [-1.5, -1.0]
D_CHOSEN = sum(CHOSEN) - sum(REF_CHOSEN)  # 2.0
D_REJECTED = sum(REJECTED) - sum(REF_REJECTED)  # -1.5


def pair() -> tuple[Outputs, TrainBatch]:
    """One pair of three and two actions; what is masked would be seen."""
    logprobs = torch.tensor([CHOSEN, [*REJECTED, 7.0]], dtype=torch.float64)
    reference = torch.tensor([REF_CHOSEN, [*REF_REJECTED, -9.0]], dtype=torch.float64)
    rows = Rows(torch.tensor([3, 2]), logprobs, torch.arange(2))
    return Outputs(logprobs), ReferencePairBatch(inputs=rows, ref_logprobs_BT=reference)


def terms(**settings) -> dict[str, float]:
    return {t.name: float(t.sum) for t in DPO(DPOSettings(**settings)).loss(*pair())}


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def test_sigmoid_loss_by_hand():
    h = 0.3 * (D_CHOSEN - D_REJECTED)
    assert terms(beta=0.3)["policy_loss"] == pytest.approx(-log_sigmoid(h))


def test_label_smoothing_is_that_of_conservative_dpo():
    h = 0.3 * (D_CHOSEN - D_REJECTED)
    expected = -0.9 * log_sigmoid(h) - 0.1 * log_sigmoid(-h)
    assert terms(beta=0.3, label_smoothing=0.1)["policy_loss"] == pytest.approx(expected)


def test_ipo_by_hand():
    expected = (D_CHOSEN - D_REJECTED - 1 / 0.6) ** 2
    assert terms(beta=0.3, variant="ipo")["policy_loss"] == pytest.approx(expected)


def test_ipo_a_token_by_hand():
    expected = (D_CHOSEN / 3 - D_REJECTED / 2 - 1 / 0.6) ** 2
    found = terms(beta=0.3, variant="ipo", length_normalised=True)
    assert found["policy_loss"] == pytest.approx(expected)


def test_metrics_by_hand():
    found = terms(beta=0.3)
    assert found["accuracy"] == 1.0
    assert found["chosen_reward"] == pytest.approx(0.3 * D_CHOSEN)
    assert found["rejected_reward"] == pytest.approx(0.3 * D_REJECTED)
    assert found["margin"] == pytest.approx(0.3 * (D_CHOSEN - D_REJECTED))


def test_only_the_loss_is_trained_on_and_counts_pairs():
    found = DPO(DPOSettings()).loss(*pair())
    assert [t.name for t in found if t.weight] == ["policy_loss"]
    assert {t.unit for t in found} == {"item"}


def test_loss_falls_with_the_chosen_and_rises_with_the_rejected():
    outputs, batch = pair()
    logprobs = outputs.logprobs_BT.requires_grad_()
    DPO(DPOSettings()).loss(Outputs(logprobs), batch)[0].sum.backward()
    assert bool((logprobs.grad[0] < 0).all())
    assert bool((logprobs.grad[1, :2] > 0).all())
    assert float(logprobs.grad[1, 2]) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"variant": "ipo", "label_smoothing": 0.1}, "label_smoothing belongs to variant sigmoid"),
        ({"length_normalised": True}, "length_normalised belongs to variant ipo"),
        ({"label_smoothing": 0.5}, "label_smoothing"),
        ({"beta": 0.0}, "beta"),
    ],
)
def test_settings_that_do_not_fit_are_refused(wrong, message):
    with pytest.raises(SettingsError, match=message):
        DPOSettings.parse(wrong)
