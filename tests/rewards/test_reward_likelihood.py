"""Every kind of feedback against the slow likelihood in `choice_twin`, entry by entry."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from choice_twin import PEOPLE, SCORES, Twin, nlls, one_of_each, random_annotators
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_reward import Person, make_clips, sigmoid

from backflip.records.feedback import (
    KINDS,
    Comparison,
    Critique,
    Demonstration,
    GoodBad,
    Implicit,
    Ranking,
    Rating,
)
from backflip.rewards import LIKELIHOODS, AnnotatorModel, Choices


def test_every_kind_has_a_likelihood_and_an_example_here():
    assert LIKELIHOODS.keys() == KINDS.keys()
    assert {type(e) for e in one_of_each()} == set(KINDS.values())


@pytest.mark.parametrize("people", [PEOPLE, ("ann", "a stranger")])
def test_all_kinds_in_one_batch_match_their_twin(people):
    entries, model = one_of_each(people), random_annotators()
    margin = (0.0, 0.1, 0.4, 0.9)
    choices, nll_E = nlls(entries, model, SCORES, margin=margin)
    twin = Twin(model, SCORES, margin)
    assert choices.entries == tuple(entries)
    expected = [twin.nll(entry) for entry in entries]
    np.testing.assert_allclose(nll_E.detach().numpy(), expected, rtol=1e-11)


def test_a_batch_is_the_entries_one_by_one():
    entries, model = one_of_each(), random_annotators()
    _, together = nlls(entries, model, SCORES)
    alone = [nlls([entry], model, SCORES)[1].item() for entry in entries]
    np.testing.assert_allclose(together.detach().numpy(), alone, rtol=1e-12)


def test_every_parameter_that_a_batch_speaks_of_gets_its_gradient():
    """Against central differences of the twin."""
    entries, model = one_of_each(), random_annotators(1)
    _, nll_E = nlls(entries, model, SCORES)
    nll_E.sum().backward()
    step = 1e-6
    for parameter in model.parameters():
        flat = parameter.detach().view(-1)
        for i in range(len(flat)):
            sides = []
            for sign in (1, -1):
                flat[i] += sign * step
                sides.append(sum(map(Twin(model, SCORES).nll, entries)))
                flat[i] -= sign * step
            slope = (sides[0] - sides[1]) / (2 * step)
            grad = 0.0 if parameter.grad is None else parameter.grad.view(-1)[i].item()
            assert grad == pytest.approx(slope, rel=1e-6, abs=1e-7)


def test_what_chose_nothing_gives_no_row():
    empty = [
        Critique(annotator="ann", sample="s0", text="meh"),
        Demonstration(annotator="ann", sample="s1"),
    ]
    kept = GoodBad(annotator="ann", sample="s2", good=True)
    assert not any(entry.is_choice for entry in empty)
    choices = Choices([empty[0], kept, empty[1]])
    assert choices.entries == (kept,)
    assert choices.sample_ids == ("s2",)
    assert Choices(empty).nll(torch.zeros(0), random_annotators()).shape == (0,)


def test_the_answers_to_a_comparison_sum_to_one_with_and_without_both_bad():
    for both_bad, answers in ((True, 4), (False, 3)):
        model = random_annotators(2, both_bad=both_bad)
        entries = [
            Comparison(annotator="bob", samples=("s0", "s2"), choice=choice)
            for choice in ("a", "b", "tie", "both_bad")[:answers]
        ]
        for ties in ("davidson", "rao_kupper"):
            _, nll_E = nlls(entries, model, SCORES, ties=ties)
            assert nll_E.neg().exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_ties_by_rao_and_kupper_are_another_likelihood():
    entry = Comparison(annotator="bob", samples=("s0", "s2"), choice="tie")
    model = random_annotators(both_bad=False)
    beta = Twin(model, SCORES).betas["bob"]
    log_t = math.log1p(math.exp(model.log_tie.item()))
    gap = beta * (SCORES["s0"] - SCORES["s2"])
    a, b = sigmoid(gap - log_t), sigmoid(-gap - log_t)
    _, nll_E = nlls([entry], model, SCORES, ties="rao_kupper")
    assert nll_E.item() == pytest.approx(-math.log(1 - a - b), rel=1e-11)


@pytest.mark.parametrize("pair", [("kept", "regenerated"), ("copied", "abandoned")])
@pytest.mark.parametrize("over", [None, "s5"])
def test_an_implicit_signal_and_its_opposite_sum_to_one(pair, over):
    entries = [Implicit(annotator="cy", sample="s1", signal=s, over=over) for s in pair]
    _, nll_E = nlls(entries, random_annotators(6), SCORES)
    assert nll_E.neg().exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("K", [2, 3, 4])
def test_the_orders_of_samples_and_their_lines_sum_to_one(K):
    model = random_annotators(4)
    total = 0.0
    for ranks in product(range(1, K + 1), repeat=K):
        if set(ranks) != set(range(1, len(set(ranks)) + 1)):
            continue  # the same order as one with ranks that leave none out
        places = [sum(rank <= top for rank in ranks) for top in range(max(ranks) + 1)]
        for line in places:
            entry = Ranking(
                annotator="cy",
                samples=tuple(f"s{i}" for i in range(K)),
                ranks=ranks,
                num_acceptable=line,
            )
            total += math.exp(-nlls([entry], model, SCORES)[1].item())
    assert total == pytest.approx(1, abs=1e-10)


def test_the_levels_of_every_scale_sum_to_one():
    model = random_annotators(5)
    for levels in range(2, 11):
        for make in (Rating, lambda **fields: Critique(text="x", **fields)):
            entries = [
                make(annotator="ann", sample="s3", level=level, num_levels=levels)
                for level in range(1, levels + 1)
            ]
            total = nlls(entries, model, SCORES)[1].neg().exp().sum().item()
            assert total == pytest.approx(1, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    scores=st.lists(st.floats(-30, 30), min_size=2, max_size=2),
    choice=st.sampled_from(["a", "b", "tie", "both_bad"]),
    strength=st.integers(0, 3),
    shift=st.floats(-50, 50),
)
def test_a_swapped_comparison_is_the_same_and_only_differences_count(
    scores, choice, strength, shift
):
    strength = strength if choice in "ab" else 0
    entry = Comparison(
        annotator="ann", samples=("x", "y"), choice=choice, strength=strength, shown=(1, 0)
    )
    model, margin = random_annotators(both_bad=False), (0.0, 0.5, 1.0, 2.0)
    table = dict(zip("xy", scores, strict=True))
    there = nlls([entry], model, table, margin=margin)[1].item()
    back = nlls([entry.swap()], model, table, margin=margin)[1].item()
    assert there == pytest.approx(back, rel=1e-9, abs=1e-12)
    if choice != "both_bad":
        moved = {name: score + shift for name, score in table.items()}
        assert nlls([entry], model, moved, margin=margin)[1].item() == pytest.approx(
            there, rel=1e-6, abs=1e-9
        )


def test_a_wrong_number_of_scores_is_refused():
    choices = Choices([GoodBad(annotator="ann", sample="s0", good=True)])
    with pytest.raises(ValueError, match="1 samples"):
        choices.nll(torch.zeros(2), random_annotators())


def test_people_in_these_tests_answer_with_the_twins_probabilities():
    """The simulation that the recovery test learns from is the model that the twin describes."""
    rng = np.random.default_rng(0)
    person = Person("ann", 1.0, rng)
    samples = make_clips(rng, 1, 4)
    scores = [0.5, -0.3, 0.2, 1.0]
    model = AnnotatorModel(["ann"], both_bad_origins=["people"], dtype=torch.float64)
    model.log_tie.data.fill_(person.log_tie)
    model.thresholds["acceptable"].data.fill_(person.threshold)
    table = dict(zip((s.id for s in samples), scores, strict=True))
    draws = 4000
    answers = [person.answer("comparison", samples, scores).choice for _ in range(draws)]
    for choice in ("a", "b", "tie", "both_bad"):
        entry = Comparison(annotator="ann", samples=(samples[0].id, samples[1].id), choice=choice)
        expected = math.exp(-nlls([entry], model, table)[1].item())
        spread = math.sqrt(expected * (1 - expected) / draws)
        assert abs(answers.count(choice) / draws - expected) < 4.5 * spread
