"""Rewards in use: trained ones, functions, ensembles and mixtures."""

import gc
import math
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from linear_reward import LinearReward, features, make_clips

from backflip.errors import ModelError, TrainingError
from backflip.records import Completion, Prompt, Sample
from backflip.rewards import (
    EnsembleReward,
    FunctionReward,
    GatedReward,
    MixtureReward,
    Reward,
)

WEIGHT = [1.0, -0.5, 0.2, 0.0, 2.0]


def reply(text, tokens=()):
    completion = Completion(text=text, tokens=np.array(tokens, np.int32))
    return Sample.of(Prompt.from_text("Hello?"), completion)


class Given:
    """A reward with the scores it was given, in order."""

    def __init__(self, *scores):
        self.scores = scores

    def score(self, samples):
        return list(self.scores[: len(samples)])


@pytest.fixture(scope="module")
def clips():
    return make_clips(np.random.default_rng(0), 5, 4)


class TestTrainedReward:
    def test_scores_are_those_of_single_samples_in_their_order(self, clips):
        """Lengths are mixed and passes tiny, so rows are sorted, cut, padded and put back."""
        reward = LinearReward(WEIGHT, max_tokens=20)
        expected = [float(features(s) @ np.array(WEIGHT)) for s in clips]
        assert reward.score(clips) == pytest.approx(expected, rel=1e-12)
        assert max(reward.padded_read) <= 20
        assert len(reward.padded_read) > 3
        assert sum(reward.rows_read) == len(clips)

    def test_none_where_it_does_not_apply(self, clips):
        reward = LinearReward(WEIGHT)
        mixed = [reply("hi"), clips[0], reply("ho"), clips[1]]
        scores = reward.score(mixed)
        assert scores[0] is scores[2] is None
        assert [scores[1], scores[3]] == reward.score(clips[:2])
        assert reward.score([mixed[0]]) == [None]
        assert reward.score([]) == []

    def test_normalising_gives_mean_zero_and_unit_deviation_and_survives_its_record(self, clips):
        reward = LinearReward(WEIGHT)
        reward.normalise([*clips[:15], reply("not read")])
        scores = reward.score(clips[:15])
        assert np.mean(scores) == pytest.approx(0, abs=1e-12)
        assert np.std(scores, ddof=1) == pytest.approx(1)
        twin = LinearReward(WEIGHT)
        twin.load_record({**reward.record(), "stage": "reward"})
        assert twin.score(clips) == reward.score(clips)

    def test_normalising_leaves_what_fitting_sees(self, clips):
        reward = LinearReward(WEIGHT)
        before = reward(reward.collate(clips))
        reward.normalise_by(3.0, 7.0)
        assert (reward(reward.collate(clips)) == before).all()

    def test_what_cannot_be_normalised(self, clips):
        with pytest.raises(TrainingError, match="1 samples are too few"):
            LinearReward(WEIGHT).normalise(clips[:1])
        with pytest.raises(TrainingError, match="same score"):
            LinearReward([0.0] * 5).normalise(clips)
        for record in ({"scale": 0}, {"scale": "wide"}, {"center": math.nan}, {"center": [1]}):
            with pytest.raises(ModelError, match="normalise nothing"):
                LinearReward(WEIGHT).load_record(record)

    def test_a_score_that_is_not_finite_names_its_sample(self, clips):
        with pytest.raises(TrainingError) as caught:
            LinearReward([math.inf] * 5).score(clips[:3])
        assert caught.value.where in {s.id for s in clips[:3]}


class TestFunctionReward:
    def test_numbers_and_none_pass_through(self):
        samples = [reply("a" * n) for n in range(1, 5)]
        reward: Reward = FunctionReward(lambda s: None if s.text == "aa" else len(s.text))
        assert reward.score(samples) == [1.0, None, 3.0, 4.0]
        timed = FunctionReward(lambda s: None if s.text == "aa" else len(s.text), timeout=30)
        assert timed.score(samples) == [1.0, None, 3.0, 4.0]

    @pytest.mark.parametrize("timeout", [None, 30])
    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (lambda s: math.nan, "returned nan, no finite number"),
            (lambda s: "much", "returned 'much', no finite number"),
            (lambda s: 1 / 0, "raised ZeroDivisionError: division by zero"),
            (lambda s: [1.0], "no finite number"),
        ],
    )
    def test_faults_name_function_and_sample(self, function, message, timeout):
        sample = reply("x")
        reward = FunctionReward(function, name="mine", timeout=timeout)
        with pytest.raises(TrainingError) as caught:
            reward.score([sample])
        assert message in str(caught.value)
        assert caught.value.where == f"reward 'mine', {sample.id}"

    def test_running_over_names_the_sample_and_the_next_one_is_answered(self):
        gate = threading.Event()
        slow, quick = reply("slow"), reply("quick")
        before = set(threading.enumerate())

        def function(sample):
            if sample is slow:
                gate.wait(60)
            return 2.0

        reward = FunctionReward(function, name="mine", timeout=0.2)
        with pytest.raises(TrainingError, match=r"no answer within 0\.2 s") as caught:
            reward.score([slow])
        assert slow.id in str(caught.value)
        reward._timeout = 30  # this machine may be busy
        assert reward.score([quick]) == [2.0]
        threads = set(threading.enumerate()) - before
        assert len(threads) == 2
        gate.set()
        # The late answer goes nowhere, and the threads end: one now, one with the reward.
        assert reward.score([quick]) == [2.0]
        del reward, caught  # the error holds the frames it came through
        gc.collect()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()

    def test_a_time_out_of_nothing_is_refused(self):
        with pytest.raises(ValueError, match="leaves no time"):
            FunctionReward(len, timeout=0)


class TestEnsemble:
    members = (Given(1.0, None, -2.0), Given(3.0, 1.0, -2.0), Given(2.0, 1.0, -5.0))
    samples = tuple(reply(str(i)) for i in range(3))

    @pytest.mark.parametrize(
        ("combine", "expected"),
        [
            ("mean", [2.0, None, -3.0]),
            ("worst", [1.0, None, -5.0]),
            # Variances 2/3 and 2.
            ("uncertain", [2.0 - 0.5 * 2 / 3, None, -3.0 - 0.5 * 2]),
        ],
    )
    def test_combinations(self, combine, expected):
        reward = EnsembleReward(self.members, combine=combine, penalty=0.5)
        scores = reward.score(self.samples)
        assert scores[1] is None
        assert [scores[0], scores[2]] == pytest.approx([expected[0], expected[2]])

    def test_nothing_to_score_or_to_combine(self):
        assert EnsembleReward(self.members).score([]) == []
        with pytest.raises(ValueError, match="at least one"):
            EnsembleReward([])
        with pytest.raises(ValueError, match="at least two"):
            EnsembleReward(self.members[:1], combine="uncertain")


class TestMixtures:
    samples = tuple(reply(str(i)) for i in range(4))

    def test_a_weighted_sum_over_the_parts_that_apply(self):
        parts = {
            "kind": (Given(1.0, None, 2.0, None), 2.0),
            "short": (Given(-1.0, -3.0, None, None), 0.5),
        }
        mixture = MixtureReward(parts)
        assert mixture.score(self.samples) == [1.5, -1.5, 4.0, None]
        assert mixture.part_scores(self.samples)["short"] == [-1.0, -3.0, None, None]
        with pytest.raises(ValueError, match="at least one part"):
            MixtureReward({})

    @given(st.lists(st.floats(-9, 9), min_size=4, max_size=4), st.floats(-3, 3))
    def test_a_mixture_is_linear(self, scores, weight):
        both = MixtureReward({"a": (Given(*scores), weight), "b": (Given(*scores), 1 - weight)})
        assert both.score(self.samples) == pytest.approx(scores, abs=1e-9)

    def test_safety_replaces_helpfulness_below_the_threshold(self):
        helpful, safe = Given(5.0, 4.0, None, 3.0), Given(-2.0, -1.0, -9.0, None)
        gated = GatedReward(helpful=helpful, safe=safe, threshold=-1.0)
        assert gated.score(self.samples) == [-2.0, 4.0, -9.0, 3.0]
