"""Splitting feedback of which some was picked for what may be learned from it."""

import numpy as np
import pytest
from linear_reward import make_clips

from backflip.errors import TrainingError
from backflip.records import Sample
from backflip.records.feedback import Comparison, GoodBad
from backflip.rewards import heldout_side, split_by_prompt


def rated(samples: list[Sample]) -> list[GoodBad]:
    return [GoodBad(annotator="ann", sample=s.id, good=True) for s in samples]


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Two of each of a hundred prompts."""
    return make_clips(np.random.default_rng(0), 100, 2)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.7])
@pytest.mark.parametrize("seed", range(4))
def test_what_was_picked_is_trained_on_or_left_out(samples: list[Sample], share, seed):
    """The first sample of a prompt was drawn; the second was picked where the prompt is even."""
    by_id = {s.id: s for s in samples}
    entries = rated(samples)
    picked = {s.id for s in samples[1::4]}
    train, heldout = split_by_prompt(entries, by_id, share, seed, picked)
    plain_train, plain_heldout = split_by_prompt(entries, by_id, share, seed)
    assert train == plain_train
    assert heldout == [e for e in plain_heldout if e.sample not in picked]
    assert len(heldout) < len(plain_heldout)
    assert split_by_prompt(entries, by_id, share, seed, ()) == (plain_train, plain_heldout)


def test_the_side_of_a_prompt_is_known_before_anybody_is_asked(samples: list[Sample]):
    by_id = {s.id: s for s in samples}
    prompts = [s.prompt_id for s in samples]
    for share in (0.001, 0.3, 0.999):
        side = heldout_side(prompts, share, seed=3)
        _, heldout = split_by_prompt(rated(samples), by_id, share, 3)
        assert side == {by_id[e.sample].prompt_id for e in heldout}
        assert 0 < len(side) < 100
    assert heldout_side(prompts, 0.3, seed=4) != heldout_side(prompts, 0.3, seed=3)
    assert heldout_side(prompts[:2], 0.5, seed=3) == set()  # of one prompt
    assert heldout_side([], 0.5, seed=3) == set()


def test_something_drawn_is_held_out_however_little_there_is(samples: list[Sample]):
    """Of many that were picked and two that were drawn, one changes over where none is below."""
    by_id = {s.id: s for s in samples}
    for seed in range(20):
        drawn = {samples[2 * i].id for i in np.random.default_rng(seed).permutation(100)[:2]}
        picked = set(by_id) - drawn
        train, heldout = split_by_prompt(rated(samples), by_id, 0.001, seed, picked)
        assert {e.sample for e in heldout} < drawn
        assert len(heldout) == 1
        held = by_id[heldout[0].sample].prompt_id
        assert train
        assert held not in {by_id[e.sample].prompt_id for e in train}


def test_an_entry_counts_as_picked_when_any_of_its_samples_was(samples: list[Sample]):
    by_id = {s.id: s for s in samples}
    entries = [
        Comparison(annotator="ann", samples=(a.id, b.id), choice="a")
        for a, b in zip(samples[::2], samples[1::2], strict=True)
    ]
    _, plain = split_by_prompt(entries, by_id, 0.4, 1)
    for side in (0, 1):
        first = {e.samples[side] for e in plain[:3]}
        _, heldout = split_by_prompt(entries, by_id, 0.4, 1, first)
        assert heldout == plain[3:]


def test_with_nothing_drawn_there_is_nothing_to_hold_out(samples: list[Sample]):
    by_id = {s.id: s for s in samples}
    with pytest.raises(TrainingError, match="cannot be split"):
        split_by_prompt(rated(samples), by_id, 0.3, 0, set(by_id))
