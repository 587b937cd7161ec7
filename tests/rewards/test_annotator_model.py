"""What is learned of annotators: gauge, priors and where everything starts."""

import math

import pytest
import torch
from choice_twin import PEOPLE, nlls, one_of_each, random_annotators

from backflip.config import RewardSettings
from backflip.records.feedback import Comparison, GoodBad, Rating
from backflip.rewards import AnnotatorModel


class TestAnnotatorModel:
    def test_mean_log_reliability_is_zero_whatever_the_parameters(self):
        betas = random_annotators().reliabilities()
        assert sum(map(math.log, betas.values())) == pytest.approx(0, abs=1e-12)
        assert len(set(betas.values())) == 3

    def test_penalty_is_zero_at_the_start_and_the_normal_density_elsewhere(self):
        model = AnnotatorModel(PEOPLE, reliability_prior=0.5, dtype=torch.float64)
        assert model.penalty().item() == 0
        raw = torch.tensor([0.3, -0.2, 0.8], dtype=torch.float64)
        model.log_beta.data = raw
        centred = [x - 0.3 for x in raw.tolist()]
        density = sum(-0.5 * (x / 0.5) ** 2 for x in centred)
        assert model.penalty().item() == pytest.approx(-density)
        model.log_tie.data.fill_(6.0)
        model.scales["rating_5"].data[1] += 1.0
        assert model.penalty().item() == pytest.approx(-density + 0.5 * 4 + 0.5)

    def test_reliabilities_can_be_held_at_one(self):
        entries = [GoodBad(annotator=n, sample="s0", good=True) for n in PEOPLE]
        model = AnnotatorModel.of(entries, RewardSettings(reliability=False))
        assert not model.log_beta.requires_grad
        assert model.reliabilities() == dict.fromkeys(PEOPLE, 1.0)

    def test_ties_start_at_their_share(self):
        """At equal scores the tie has the smoothed share that was seen."""
        entries = [
            Comparison(annotator="ann", samples=("x", "y"), choice=choice, key=str(i))
            for i, choice in enumerate(["a"] * 5 + ["tie"] * 2)
        ]
        model = AnnotatorModel.of(entries, RewardSettings(), dtype=torch.float64)
        for ties in ("davidson", "rao_kupper"):
            nll = nlls(entries[-1:], model, {"x": 1.0, "y": 1.0}, ties=ties)[1]
            assert math.exp(-nll.item()) == pytest.approx(3 / 10)

    def test_levels_start_equally_likely(self):
        entries = [Rating(annotator="ann", sample="x", level=n, num_levels=7) for n in range(1, 8)]
        model = AnnotatorModel(["ann"], dtype=torch.float64)
        probabilities = nlls(entries, model, {"x": 0.0})[1].neg().exp().tolist()
        assert probabilities == pytest.approx([1 / 7] * 7)

    def test_the_state_depends_on_the_annotators_alone(self):
        """A checkpoint fits again whatever kinds and orders of entries the model is made from."""
        one = AnnotatorModel.of(one_of_each(), RewardSettings())
        other = AnnotatorModel(reversed(PEOPLE))
        other.load_state_dict(one.state_dict())
        assert other.names == one.names
