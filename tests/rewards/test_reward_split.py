"""Splitting feedback by prompt: nothing leaks, nothing moves."""

from collections import Counter

import numpy as np
import pytest
from linear_reward import Person, ask, make_clips

from backflip.errors import TrainingError
from backflip.records.feedback import KINDS, Comparison, Critique, GoodBad
from backflip.rewards import split_by_prompt


@pytest.fixture(scope="module")
def mixed():
    rng = np.random.default_rng(7)
    samples = make_clips(rng, 12, 4)
    weight = np.array([1.0, -0.7, 0.4, 0.0, 0.3])
    return samples, ask([Person("ann", 1.0, rng)], samples, weight, tuple(KINDS), rng, 60)


def test_no_prompt_is_on_both_sides_and_nothing_is_lost(mixed):
    samples, entries = mixed
    by_id = {s.id: s for s in samples}
    train, heldout = split_by_prompt(entries, by_id, 0.3, seed=2)
    sides = [{by_id[i].prompt_id for e in side for i in e.sample_ids} for side in (train, heldout)]
    assert not sides[0] & sides[1]
    assert Counter(map(id, [*train, *heldout])) == Counter(map(id, entries))


def test_a_prompt_stays_on_its_side_as_feedback_comes_in():
    samples = make_clips(np.random.default_rng(0), 300, 1)
    by_id = {s.id: s for s in samples}
    entries = [GoodBad(annotator="ann", sample=s.id, good=True) for s in samples]
    _, early = split_by_prompt(entries[:150], by_id, 0.2, seed=5)
    train, late = split_by_prompt(entries, by_id, 0.2, seed=5)
    assert late[: len(early)] == early
    # Binomial: 60 of 300 with a standard deviation of 7.
    assert 35 < len(late) < 85
    assert len(train) + len(late) == 300
    assert split_by_prompt(entries, by_id, 0.2, seed=6)[1] != late


@pytest.mark.parametrize("share", [0.001, 0.999])
@pytest.mark.parametrize("seed", range(5))
def test_neither_side_is_ever_empty(share, seed):
    samples = make_clips(np.random.default_rng(0), 3, 1)
    entries = [GoodBad(annotator="ann", sample=s.id, good=True) for s in samples]
    train, heldout = split_by_prompt(entries, {s.id: s for s in samples}, share, seed)
    assert train
    assert heldout
    with pytest.raises(TrainingError, match="cannot be split"):
        split_by_prompt(entries[:1], {s.id: s for s in samples}, share, seed)


def test_what_chose_nothing_is_on_neither_side(mixed):
    """Or a side could be without anything to measure or learn."""
    samples, entries = mixed
    by_id = {s.id: s for s in samples}
    silent = [Critique(annotator="ann", sample=s.id, text="hm") for s in samples]
    assert split_by_prompt([*silent, *entries], by_id, 0.3, seed=2) == split_by_prompt(
        entries, by_id, 0.3, seed=2
    )


def test_an_entry_on_two_prompts_is_held_out_with_either():
    samples = make_clips(np.random.default_rng(0), 40, 1)
    by_id = {s.id: s for s in samples}
    alone = [GoodBad(annotator="ann", sample=s.id, good=True) for s in samples]
    across = [
        Comparison(annotator="ann", samples=(a.id, b.id), choice="a")
        for a, b in zip(samples[::2], samples[1::2], strict=True)
    ]
    train, heldout = split_by_prompt([*alone, *across], by_id, 0.3, seed=1)
    trained_on = {i for e in train for i in e.sample_ids}
    held = {e.sample for e in heldout if isinstance(e, GoodBad)}
    assert held
    assert not trained_on & held
