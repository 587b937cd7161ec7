"""What networks make of samples below their last layer."""

from pathlib import Path

import numpy as np
import pytest
import torch
from linear_reward import make_clips

from backflip.agents import ClipReward, ClipScorer
from backflip.config import ModelSettings, ScratchSettings
from backflip.data import encode_sample
from backflip.errors import TrainingError
from backflip.models import TextInputs, TextScorer, make_model, save_model, train_tokenizer
from backflip.records import Completion, Prompt, Sample
from backflip.rewards import TextReward

TEXTS = ["Yes.", "No, never, not at all.", "Rain falls on the roof and nobody minds it much."]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> TextReward:
    folder: Path = tmp_path_factory.mktemp("base")
    tokenizer = train_tokenizer(TEXTS * 3, 300)
    shape = ScratchSettings(width=32, layers=2, heads=2, vocabulary=300, max_positions=256)
    save_model(make_model(shape, tokenizer, seed=1), tokenizer, folder / "model")
    settings = ModelSettings(name=str(folder / "model"), precision="float32")
    return TextReward(TextScorer.load(settings, seed=3))


@pytest.fixture
def clips() -> ClipReward:
    shape = {"observation": 5, "actions": 1, "discrete": False, "width": 16}
    reward = ClipReward(ClipScorer(shape, seed=2))
    generator = torch.Generator().manual_seed(0)
    for parameter in reward.parameters():  # biases too, so that padding would have features
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return reward


def test_a_replys_features_are_the_mean_of_its_own_tokens_states(text: TextReward):
    """Against the bare network, a row at a time; several replies share a prompt."""
    prompts = [Prompt.from_text("May I?"), Prompt.from_text("Tell me about the rain, please.")]
    samples = [Sample.of(p, Completion(text=t)) for p in prompts for t in TEXTS]
    expected = []
    for sample in samples:
        prompt, reply = encode_sample(text.tokenizer, sample)
        row = torch.from_numpy(np.concatenate([prompt, reply])).long()[None]
        with torch.no_grad():
            states = text.scorer.model.base_model(row).last_hidden_state[0]
        expected.append(states[len(prompt) :].double().mean(0).numpy())
    for limit in (8192, 48):  # all at once, and a few rows at a time
        text.max_tokens = limit
        found = text.embed(samples)
        assert found.shape == (6, 32)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(expected, 0).max() > 0.1


def test_a_reply_without_tokens_has_no_features(text: TextReward):
    prompt, reply = encode_sample(
        text.tokenizer, Sample.of(Prompt.from_text("May I?"), Completion(text="Yes."))
    )
    inputs = TextInputs.of([prompt, prompt], [reply[:0], reply], pad_id=0)
    bare, full = text.features(inputs).detach()
    assert bare.abs().sum() == 0
    assert full.abs().sum() > 0


def test_a_clips_score_is_linear_in_its_features(clips: ClipReward):
    """The last layer on the mean over steps is the mean of the last layer on each."""
    samples = make_clips(np.random.default_rng(1), 20, 2)
    features = torch.from_numpy(clips.embed(samples)).float()
    with torch.no_grad():
        scores = clips.scorer.net[-1](features)[:, 0]
    assert scores.tolist() == pytest.approx(clips.score(samples), abs=1e-5)
    assert features.shape == (40, 16)
    assert float(scores.std()) > 0.01


def test_features_that_are_not_finite_are_told_by_their_sample(clips: ClipReward):
    samples = make_clips(np.random.default_rng(1), 3, 1)
    samples[1].clip.observations[:] = np.nan
    with pytest.raises(TrainingError, match="no finite features") as caught:
        clips.embed(samples)
    assert caught.value.where == samples[1].id
