"""Fitting: what a step learns from, its exact gradient, and the recovery of a known reward."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from linear_reward import WIDTH, LinearReward, Person, ask, features, make_clips

from backflip.config import OptimizerSettings, RewardSettings
from backflip.errors import SettingsError, TrainingError
from backflip.records.feedback import KINDS, Comparison, Critique, Demonstration, GoodBad, Ranking
from backflip.rewards import AnnotatorModel, RewardFit

WEIGHT = np.array([1.0, -0.7, 0.4, 0.0, 0.3])
BETAS = {"ann": 3.0, "bob": 1.6, "cy": 1.0, "dan": 0.6, "eve": 1 / (3.0 * 1.6 * 0.6)}
MIXED = tuple(KINDS)


def crowd(seed=0, betas=BETAS):
    rng = np.random.default_rng(seed)
    return [Person(name, beta, rng) for name, beta in betas.items()]


def make_settings(micro=10**9, **fields):
    optimizer = OptimizerSettings(micro_batch_tokens=micro)
    return RewardSettings(optimizer=optimizer, **fields)


def make_fit(samples, entries, *, seed=0, start=None, moved=False, **fields):
    """A fit of a linear reward in float64; `moved` puts the annotators away from their start."""
    config = make_settings(**fields)
    annotators = AnnotatorModel.of(entries, config, dtype=torch.float64)
    if moved:
        generator = torch.Generator().manual_seed(1)
        for p in annotators.parameters():
            p.data += 0.3 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
    by_id = {s.id: s for s in samples}
    return RewardFit(LinearReward(start), annotators, entries, by_id, config, seed)


@pytest.fixture(scope="module")
def mixed():
    rng = np.random.default_rng(7)
    samples = make_clips(rng, 12, 4)
    return samples, ask(crowd(), samples, WEIGHT, MIXED, rng, 60)


def gradients(fit):
    return {
        f"{group}.{name}": p.grad.clone()
        for group, named in fit.parameters().items()
        for name, p in named.items()
        if p.grad is not None
    }


class TestBatches:
    def test_an_epoch_holds_every_entry_once_in_an_order_of_its_own(self, mixed):
        fit = make_fit(*mixed, batch_size=7, epochs=3)
        assert fit.steps_per_epoch == math.ceil(60 / 7)
        assert fit.num_steps == 3 * fit.steps_per_epoch
        epochs = []
        for epoch in range(3):
            steps = range(epoch * fit.steps_per_epoch, (epoch + 1) * fit.steps_per_epoch)
            batches = [fit.batch(step) for step in steps]
            assert [len(b) for b in batches] == [7] * 8 + [4]
            epochs.append([e for batch in batches for e in batch])
            assert Counter(map(id, epochs[-1])) == Counter(map(id, fit.entries))
        assert epochs[0] != epochs[1] != epochs[2]

    def test_a_batch_follows_from_seed_and_number_alone(self, mixed):
        there, back = (make_fit(*mixed, batch_size=7) for _ in range(2))
        forward = [there.batch(step) for step in range(20)]
        backward = [back.batch(step) for step in reversed(range(20))]
        assert forward == backward[::-1]
        assert make_fit(*mixed, batch_size=7, seed=1).batch(0) != forward[0]

    def test_the_entries_of_a_prompt_stand_together(self, mixed):
        fit = make_fit(*mixed, batch_size=7)
        order = [e for step in range(fit.steps_per_epoch) for e in fit.batch(step)]
        prompts = [fit.samples[e.sample_ids[0]].prompt_id for e in order]
        changes = sum(a != b for a, b in pairwise(prompts))
        assert changes == len(set(prompts)) - 1

    def test_what_chose_nothing_is_left_out(self, mixed):
        samples, entries = mixed
        silent = [
            Critique(annotator="ann", sample=samples[0].id, text="hm"),
            Demonstration(annotator="ann", sample=samples[0].id),
        ]
        fit = make_fit(samples, [silent[0], *entries, silent[1]])
        assert fit.entries == tuple(entries)
        with pytest.raises(TrainingError, match="none of 2 feedback entries"):
            make_fit(samples, silent)


class TestGradients:
    @pytest.mark.parametrize("micro", [1, 20, 60, 200])
    def test_micro_batches_change_nothing(self, mixed, micro):
        results = []
        for limit in (10**9, micro):
            start = [0.3, -0.2, 0.1, 0.5, 0.0]
            fit = make_fit(*mixed, micro=limit, start=start, moved=True, margin=(0, 0.1, 0.2, 0.3))
            metrics = fit.backward(fit.entries)
            results.append((metrics, gradients(fit), fit.scorer.padded_read))
        (whole, grads, read), (cut, cut_grads, cut_read) = results
        assert len(read) == 1
        assert len(cut_read) > 1
        assert cut == pytest.approx(whole, rel=1e-12)
        assert grads.keys() == cut_grads.keys()
        for name, grad in grads.items():
            torch.testing.assert_close(cut_grads[name], grad, rtol=1e-10, atol=1e-14)

    def test_a_sample_is_read_once_and_no_micro_batch_is_above_its_limit(self, mixed):
        samples, entries = mixed
        pairs = [e for e in entries if len(e.sample_ids) <= 2]
        fit = make_fit(samples, pairs, micro=60)
        assert max(Counter(i for e in pairs for i in e.sample_ids).values()) > 1
        fit.scorer.rows_read.clear()
        fit.scorer.padded_read.clear()
        metrics = fit.backward(pairs)
        distinct = len({i for e in pairs for i in e.sample_ids})
        assert sum(fit.scorer.rows_read) == distinct == metrics["samples"]
        assert max(fit.scorer.padded_read) <= 60

    def test_a_linked_group_above_the_limit_is_read_in_pieces(self):
        """A chain of comparisons holds all samples together; memory stays bounded all the same."""
        samples = make_clips(np.random.default_rng(0), 10, 4)
        chain = [
            Comparison(annotator="ann", samples=(a.id, b.id), choice="a")
            for a, b in pairwise(samples)
        ]
        fit = make_fit(samples, chain, micro=30)
        fit.scorer.padded_read.clear()
        fit.backward(chain)
        assert max(fit.scorer.padded_read) <= 30

    def test_against_finite_differences_of_the_objective(self, mixed):
        """The objective is what `evaluate` measures, plus the penalty over all entries."""
        samples, entries = mixed
        fit = make_fit(samples, entries, micro=40, start=[0.3, -0.2, 0.1, 0.5, 0.0], moved=True)
        metrics = fit.backward(fit.entries)
        penalty = fit.annotators.penalty().item() / len(entries)
        assert metrics["nll"] == pytest.approx(fit.evaluate(entries).nll, rel=1e-12)
        assert metrics["penalty"] == pytest.approx(penalty)
        assert metrics["loss"] == pytest.approx(metrics["nll"] + penalty)
        step = 1e-5
        checked = {**gradients(fit)}
        named = {f"{g}.{n}": p for g, ps in fit.parameters().items() for n, p in ps.items()}
        for name in ("reward.weight", "annotators.log_beta", "annotators.thresholds.acceptable"):
            flat = named[name].detach().view(-1)
            for i in range(len(flat)):
                sides = []
                for sign in (1, -1):
                    flat[i] += sign * step
                    value = fit.evaluate(entries).nll
                    sides.append(value + fit.annotators.penalty().item() / len(entries))
                    flat[i] -= sign * step
                slope = (sides[0] - sides[1]) / (2 * step)
                assert checked[name].view(-1)[i].item() == pytest.approx(slope, abs=1e-8)

    def test_bradley_terry_in_closed_form(self):
        """Without ties the gradient is -(1 - s(d)) times the difference of features."""
        samples = make_clips(np.random.default_rng(1), 6, 4)
        pairs = [(samples[4 * i], samples[4 * i + 1]) for i in range(6)]
        entries = [
            Comparison(annotator="ann", samples=(a.id, b.id), choice="a", strength=1)
            for a, b in pairs
        ]
        start = np.array([0.2, 0.1, -0.4, 0.3, 0.6])
        fit = make_fit(samples, entries, micro=12, start=start, margin=(0, 0.5, 0, 0))
        fit.annotators.log_tie.requires_grad_(False).fill_(-math.inf)
        choices = [features(a) - features(b) for a, b in pairs]
        expected = np.mean([-(1 - 1 / (1 + np.exp(0.5 - d @ start))) * d for d in choices], axis=0)
        fit.backward(entries)
        np.testing.assert_allclose(fit.scorer.weight.grad.numpy(), expected, rtol=1e-10)

    def test_gradients_are_added_to(self, mixed):
        fit = make_fit(*mixed, start=[0.3, -0.2, 0.1, 0.5, 0.0])
        fit.backward(fit.entries)
        once = gradients(fit)
        fit.backward(fit.entries)
        for name, grad in gradients(fit).items():
            torch.testing.assert_close(grad, 2 * once[name])


def optimise(fit, steps=60):
    """To the optimum, by full batches and a second-order method: no learning rate to tune."""
    parameters = [p for named in fit.parameters().values() for p in named.values()]
    solver = torch.optim.LBFGS(parameters, max_iter=steps, line_search_fn="strong_wolfe")

    def closure():
        solver.zero_grad()
        return torch.tensor(fit.backward(fit.entries)["loss"], dtype=torch.float64)

    solver.step(closure)
    return fit


def angle(weight, other=WEIGHT):
    cosine = weight @ other / np.linalg.norm(weight) / np.linalg.norm(other)
    return math.degrees(math.acos(min(cosine, 1.0)))


def learned(fit):
    return fit.scorer.weight.detach().numpy()


@pytest.fixture(scope="module")
def recovered():
    rng = np.random.default_rng(11)
    samples = make_clips(rng, 150, 4)
    entries = ask(crowd(1), samples, WEIGHT, MIXED, rng, 2500)
    return optimise(make_fit(samples, entries, reliability_prior=1.0))


class TestRecovery:
    def test_the_reward_with_its_scale(self, recovered):
        """Mean log reliability is 0 in truth as in the model, so the scale is identified."""
        assert angle(learned(recovered)) < 4
        ratio = np.linalg.norm(learned(recovered)) / np.linalg.norm(WEIGHT)
        assert ratio == pytest.approx(1, abs=0.12)

    def test_the_reliabilities_and_their_order(self, recovered):
        found = recovered.annotators.reliabilities()
        assert sorted(found, key=found.__getitem__, reverse=True) == list(BETAS)
        for name, beta in BETAS.items():
            assert math.log(found[name]) == pytest.approx(math.log(beta), abs=0.3)

    def test_ties_thresholds_and_scales(self, recovered):
        people = recovered.annotators
        assert people.log_tie.item() == pytest.approx(-1, abs=0.35)
        assert people.ranking_log_tie.item() == pytest.approx(-1, abs=0.35)
        assert people.threshold("acceptable").item() == pytest.approx(0.2, abs=0.2)
        assert people.threshold("safe").item() == pytest.approx(0.2, abs=0.3)
        assert people.signal_beta(["copied"]).item() == pytest.approx(0.3, rel=0.5)
        cuts = people.cutpoints("rating", 5).tolist()
        assert cuts == pytest.approx([-2.0, -0.7, 0.7, 2.0], abs=0.5)

    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind_alone_teaches_the_reward(self, kind):
        """No kind has its sign turned round or is ignored."""
        rng = np.random.default_rng(3)
        samples = make_clips(rng, 100, 4)
        people = crowd(4, {"ann": 3.0, "bob": 2.0})
        for person in people:
            person.signal_beta = 1.0
        entries = ask(people, samples, WEIGHT, [kind], rng, 600)
        assert angle(learned(optimise(make_fit(samples, entries), 25))) < 20

    def test_learning_reliabilities_is_better_with_unequal_annotators(self):
        """Two careful people among eight who nearly guess, three times over."""
        betas = {"careful-1": 5.0, "careful-2": 4.0} | {f"guess-{i}": 0.15 for i in range(8)}
        angles = {True: [], False: []}
        for seed in range(3):
            rng = np.random.default_rng(100 + seed)
            samples = make_clips(rng, 100, 4)
            entries = ask(crowd(seed, betas), samples, WEIGHT, ["comparison"], rng, 500)
            for reliability, found in angles.items():
                fit = make_fit(samples, entries, reliability=reliability, reliability_prior=1.0)
                found.append(angle(learned(optimise(fit, 25))))
        assert np.mean(angles[True]) < 0.75 * np.mean(angles[False])
        assert all(a < b for a, b in zip(*angles.values(), strict=True))


class TestEvaluate:
    def test_a_report_by_hand(self):
        a, b, c, d = samples = make_clips(np.random.default_rng(5), 1, 4)
        weight = np.array([1.0, 0, 0, 0, 0])
        entries = [
            Comparison(annotator="ann", samples=(a.id, b.id), choice="a"),
            Comparison(annotator="ann", samples=(a.id, b.id), choice="tie"),
            Ranking(annotator="ann", samples=(a.id, b.id, c.id), ranks=(1, 2, 3)),
            GoodBad(annotator="ann", sample=d.id, good=True),
        ]
        fit = make_fit(samples, entries, start=weight, micro=9)
        report = fit.evaluate(entries)
        score = {s.id: float(features(s)[0]) for s in samples}
        assert report.scores == pytest.approx(score)
        right = [score[x.id] > score[y.id] for x, y in ((a, b), (a, c), (b, c))]
        assert report.accuracy == pytest.approx((right[0] + sum(right) / 3) / 2)
        assert report.num_decided == 2
        assert report.num_entries == 4
        assert report.nll_by_kind["good_bad"] == pytest.approx(math.log1p(math.exp(-score[d.id])))
        weights = {"comparison": 2, "ranking": 1, "good_bad": 1}
        mean = sum(report.nll_by_kind[kind] * n for kind, n in weights.items()) / 4
        assert report.nll == pytest.approx(mean)

    def test_margins_are_for_training_only(self, mixed):
        samples, _ = mixed
        pair = (samples[0].id, samples[1].id)
        entries = [Comparison(annotator="ann", samples=pair, choice="a", strength=3)]
        plain, margin = (make_fit(samples, entries, margin=(0, 0, 0, m)) for m in (0.0, 2.0))
        assert plain.evaluate(entries) == margin.evaluate(entries)
        assert margin.backward(entries)["nll"] > plain.backward(entries)["nll"]

    def test_strangers_answer_with_reliability_one(self, mixed):
        samples, entries = mixed
        fit = make_fit(samples, entries, start=WEIGHT, moved=True)
        stranger = GoodBad(annotator="nobody", sample=samples[0].id, good=True)
        threshold = fit.annotators.threshold("acceptable").item()
        gap = float(features(samples[0]) @ WEIGHT) - threshold
        assert fit.evaluate([stranger]).nll == pytest.approx(math.log1p(math.exp(-gap)))

    def test_without_decided_pairs_there_is_no_accuracy(self, mixed):
        samples, _ = mixed
        entry = GoodBad(annotator="ann", sample=samples[0].id, good=True)
        fit = make_fit(samples, [entry])
        assert fit.evaluate([entry]).accuracy is None
        assert "accuracy" not in fit.backward([entry])


class TestRefusals:
    def test_several_axes(self, mixed):
        samples, entries = mixed
        other = GoodBad(annotator="ann", axis="kind", sample=samples[0].id, good=True)
        with pytest.raises(TrainingError, match="2 axes for one reward model: kind, overall"):
            make_fit(samples, [*entries, other])

    def test_a_missing_sample_is_named(self, mixed):
        samples, entries = mixed
        lost = GoodBad(annotator="ann", sample="sample-lost", good=True)
        with pytest.raises(TrainingError, match="sample-lost"):
            make_fit(samples, [*entries, lost])
        with pytest.raises(TrainingError, match="sample-lost"):
            make_fit(samples, entries).evaluate([lost])

    def test_long_samples_are_refused_before_training(self, mixed):
        samples, entries = mixed
        longest = max(s.clip.num_steps for s in samples)
        assert longest == 9
        with pytest.raises(SettingsError, match=r"longer than max_tokens 8.*\n?Set it to 9"):
            make_fit(samples, entries, max_tokens=8)
        make_fit(samples, entries, max_tokens=9)

    def test_a_likelihood_that_is_not_finite_names_its_entry(self, mixed):
        samples, entries = mixed
        fit = make_fit(samples, entries, start=[math.nan] * WIDTH)
        with pytest.raises(TrainingError, match="not finite") as caught:
            fit.backward(entries[:3])
        assert caught.value.where in {e.id for e in entries[:3]}
