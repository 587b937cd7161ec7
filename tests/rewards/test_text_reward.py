"""The reward for replies, with a real (tiny) language model and tokenizer."""

import numpy as np
import pytest
import torch
from linear_reward import make_clips

from backflip.config import (
    LoraSettings,
    ModelSettings,
    OptimizerSettings,
    RewardSettings,
    ScratchSettings,
)
from backflip.data import encode_sample
from backflip.errors import SettingsError
from backflip.models import TextScorer, make_model, save_model, train_tokenizer
from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import Comparison, GoodBad, Ranking
from backflip.rewards import AnnotatorModel, RewardFit, TextReward

TEXTS = [
    "Yes.",
    "No, never, not at all.",
    "I would be glad to help you with that today.",
    "Rain falls on the roof and nobody minds it very much at all, or so they say.",
    "What?",
]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tokenizer = train_tokenizer(TEXTS * 3, 300)
    shape = ScratchSettings(width=32, layers=2, heads=2, vocabulary=300, max_positions=256)
    save_model(make_model(shape, tokenizer, seed=1), tokenizer, folder / "model")
    return str(folder / "model")


def load(base, **fields):
    settings = ModelSettings(name=base, precision="float32", **fields)
    return TextReward(TextScorer.load(settings, seed=3))


@pytest.fixture(scope="module")
def samples():
    prompts = [Prompt.from_text("May I?"), Prompt.from_text("Tell me about the rain, please.")]
    return [Sample.of(p, Completion(text=t)) for p in prompts for t in TEXTS]


def test_batches_of_mixed_lengths_score_like_single_rows(base, samples):
    reward = load(base)
    together = reward.score(samples)
    alone = [reward.score([s])[0] for s in samples]
    assert together == pytest.approx(alone, abs=1e-5)
    reward.max_tokens = 64
    assert reward.score(samples) == pytest.approx(alone, abs=1e-5)
    assert np.std(alone) > 1e-2  # so that the tolerance says something


def test_a_row_is_the_prompt_and_the_reply_and_the_score_is_read_at_its_end(base, samples):
    """Against the bare network on the tokens laid end to end by hand."""
    reward = load(base)
    scorer = reward.scorer
    for sample in samples[:3]:
        row = np.concatenate(encode_sample(scorer.tokenizer, sample))
        hidden = scorer.model.base_model(torch.tensor(row)[None].long()).last_hidden_state[0, -1]
        assert reward.score([sample])[0] == pytest.approx(
            scorer.model.score(hidden).item(), abs=1e-5
        )


def test_clips_do_not_apply(base, samples):
    clip = make_clips(np.random.default_rng(0), 1, 1)[0]
    assert load(base).score([clip]) == [None]
    assert load(base).score([clip, samples[0]])[1] is not None


@pytest.mark.parametrize(
    ("lora", "rate", "epochs"), [(None, 0.01, 15), (LoraSettings(rank=4), 0.003, 40)]
)
def test_fitting_in_micro_batches_learns_who_was_preferred(base, samples, lora, rate, epochs):
    """The whole way: entries of text, gradients in micro-batches, a reward that agrees."""
    short, long = samples[:5], samples[5:]
    entries = [
        Comparison(annotator="ann", samples=(samples[i].id, samples[j].id), choice="a")
        for i, j in ((0, 1), (0, 2), (3, 1), (5, 6), (5, 9), (8, 7))
    ]
    entries.append(
        Ranking(annotator="bob", samples=tuple(s.id for s in short), ranks=(1, 3, 4, 2, 5))
    )
    entries.append(GoodBad(annotator="bob", sample=long[0].id, good=True))
    entries.append(GoodBad(annotator="ann", sample=long[1].id, good=False))
    results = []
    for limit in (64, 10**6):
        config = RewardSettings(
            epochs=epochs, optimizer=OptimizerSettings(micro_batch_tokens=limit), batch_size=9
        )
        reward = load(base, lora=lora)
        annotators = AnnotatorModel.of(entries, config)
        fit = RewardFit(reward, annotators, entries, {s.id: s for s in samples}, config, seed=0)
        before = fit.evaluate(entries)
        groups = fit.parameters()
        adam = torch.optim.Adam([p for g in groups.values() for p in g.values()], lr=rate)
        first = {}
        for step in range(fit.num_steps):
            adam.zero_grad()
            fit.backward(fit.batch(step))
            if not first:
                first = {
                    n: p.grad.clone() for n, p in groups["reward"].items() if p.grad is not None
                }
            adam.step()
        after = fit.evaluate(entries)
        assert after.nll < 0.5 * before.nll
        assert after.accuracy == 1.0
        results.append(first)
    pieces, whole = results
    scale = max(float(g.abs().max()) for g in whole.values())
    assert scale > 1e-3
    for name, grad in whole.items():
        torch.testing.assert_close(pieces[name], grad, rtol=1e-3, atol=1e-5 * scale)


def test_a_saved_reward_gives_the_same_rewards(base, samples, tmp_path):
    reward = load(base)
    reward.normalise(samples)
    reward.save(tmp_path / "reward", {"stage": "reward"})
    again = TextReward(
        TextScorer.load(ModelSettings(name=str(tmp_path / "reward"), precision="float32"), False)
    )
    assert again.record() == reward.record()
    assert again.score(samples) == pytest.approx(reward.score(samples), abs=1e-4)
    assert abs(np.mean(again.score(samples))) < 1e-4
    assert np.std(again.score(samples), ddof=1) == pytest.approx(1, abs=1e-4)


def test_long_replies_are_refused_by_their_tokens(base, samples):
    entries = [GoodBad(annotator="ann", sample=s.id, good=True) for s in samples]
    reward = load(base)
    longest = max(sum(map(len, encode_sample(reward.tokenizer, s))) for s in samples)
    config = RewardSettings(max_tokens=longest - 1)
    by_id = {s.id: s for s in samples}
    with pytest.raises(SettingsError, match=f"Set it to {longest}"):
        RewardFit(reward, AnnotatorModel.of(entries, config), entries, by_id, config, seed=0)
