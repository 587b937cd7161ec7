"""Majority, and the consensus of Dawid and Skene against their paper and a slow twin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quality_crowd import compare, crowd, only, rate, table

from backflip.quality import dawid_skene, majority
from backflip.quality.consensus import majority_codes

# Dawid & Skene (1979), table 1: 45 patients by five anaesthetists, the first of them three times.
PATIENTS = """\
1111111 3334334 1122122 2223121 2223222 2223322 1222111 3333433 2222223 2322223 4444444 2223343
1111111 2223212 1211111 1112111 1111111 1111111 2222221 2221322 2222222 2222221 2223222 2212222
1111111 1111111 2322222 1111111 1111111 1121121 1111111 3333233 1111111 2222222 2223232 4334343
2212232 2323233 3333432 1111111 1111111 1212111 2322222 1211111 2222222
"""


def patients():
    values = np.array([[int(digit) - 1 for digit in row] for row in PATIENTS.split()])
    return table(values, np.tile([0, 0, 0, 1, 2, 3, 4], (45, 1)), (1, 2, 3, 4))


def test_the_anaesthetists_come_out_as_in_the_paper():
    found = dawid_skene(patients(), presume=0, tolerance=1e-12, max_iterations=1000)
    assert found.converged
    assert found.prior.round(2).tolist() == [0.40, 0.42, 0.11, 0.07]
    # Their table of error rates, first observer.
    assert found.confusion[0].round(2).tolist() == [
        [0.89, 0.11, 0, 0],
        [0.07, 0.88, 0.05, 0],
        [0, 0.34, 0.66, 0],
        [0, 0, 0.56, 0.44],
    ]


def slow_steps(rows, num_units, num_annotators, num_values, presume, steps):
    """EM answer by answer; `rows` are (unit, annotator, value)."""
    classes = range(num_values)
    post = [[0.0] * num_values for _ in range(num_units)]
    for u, _, v in rows:
        post[u][v] += 1
    post = [[x / sum(row) for x in row] for row in post]
    trace = []
    for _ in range(steps):
        prior = [sum(row[c] for row in post) / num_units for c in classes]
        confusion = []
        for a in range(num_annotators):
            square = [[presume * (4 if c == k else 1) for k in classes] for c in classes]
            for u, who, v in rows:
                if who == a:
                    for c in classes:
                        square[c][v] += post[u][c]
            confusion.append([[x / sum(row) if sum(row) else 0 for x in row] for row in square])
        joint = [list(prior) for _ in range(num_units)]
        for u, a, v in rows:
            for c in classes:
                joint[u][c] *= confusion[a][c][v]
        told = sum(np.log(sum(row)) for row in joint)
        if presume:
            told += sum(
                presume * (4 if c == k else 1) * np.log(square[c][k])
                for square in confusion
                for c in classes
                for k in classes
            )
        trace.append(told)
        post = [[x / sum(row) for x in row] for row in joint]
    return np.array(post), np.array(confusion), trace


ANSWERS = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 3), st.integers(0, 2)),
    min_size=3,
    max_size=25,
    unique_by=lambda row: row[:2],
)


@given(ANSWERS, st.sampled_from([0.0, 0.5, 1.0]))
def test_consensus_equals_its_slow_twin_and_never_falls(rows, presume):
    answers = only([compare(f"who-{a}", u, ["a", "b", "tie"][v]) for u, a, v in rows])
    places = list(zip(answers.unit, answers.annotator, answers.value, strict=True))
    sizes = (len(answers.units), len(answers.names), len(answers.scale))
    found = dawid_skene(answers, presume=presume, max_iterations=6, tolerance=0.0)
    steps = len(found.log_likelihoods)
    post, confusion, trace = slow_steps(places, *sizes, presume, steps)
    assert found.posterior == pytest.approx(post, abs=1e-9)
    assert found.confusion == pytest.approx(confusion, abs=1e-9)
    assert found.log_likelihoods == pytest.approx(trace)
    assert (np.diff(found.log_likelihoods) > -1e-9).all()
    assert found.posterior.sum(1) == pytest.approx(1)


@pytest.mark.parametrize("presume", [0.0, 1.0])
def test_the_log_likelihood_rises_in_every_step(presume):
    rng = np.random.default_rng(0)
    right = rng.uniform(0.5, 0.9, 12)
    _, answers = crowd(rng, num_units=400, each=3, num_values=4, right=right)
    found = dawid_skene(answers, presume=presume, tolerance=1e-9)
    assert len(found.log_likelihoods) > 10
    assert (np.diff(found.log_likelihoods) > 0).all()


def test_where_six_of_forty_guess_it_beats_the_majority():
    rng = np.random.default_rng(11)
    right = np.concatenate([rng.uniform(0.62, 0.92, 34), np.full(6, 0.5)])
    true, answers = crowd(rng, num_units=10_000, each=3, num_values=2, right=right)
    voted = majority_codes(answers.counts())
    found = dawid_skene(answers)
    by_votes = (voted == true).mean()
    by_consensus = (found.posterior.argmax(1) == true).mean()
    assert 0.80 < by_votes < 0.85
    assert by_consensus > by_votes + 0.02
    assert found.converged
    # Who guesses is known, and how good the others are.
    assert np.abs(found.accuracies() - right).max() < 0.08
    assert set(np.argsort(found.accuracies())[:6]) == set(range(34, 40))


def test_presumed_answers_keep_a_small_crowd_from_fitting_noise():
    """Fifteen answers each are too few for two free error rates: the votes do better than those."""
    hits = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        right = np.concatenate([rng.uniform(0.65, 0.95, 34), np.full(6, 0.5)])
        true, answers = crowd(rng, num_units=200, each=3, num_values=2, right=right)
        guesses = (
            majority_codes(answers.counts()),
            dawid_skene(answers, presume=0).posterior.argmax(1),
            dawid_skene(answers).posterior.argmax(1),
        )
        hits.append([(guess == true).mean() for guess in guesses])
    votes, free, presumed = np.mean(hits, axis=0)
    assert free < votes - 0.01
    assert presumed > free + 0.02


def test_majority_leaves_a_draw_open():
    entries = [compare("mia", 0, "a"), compare("ben", 0, "b")]
    entries += [compare("mia", 1, "tie"), compare("ben", 1, "tie"), compare("ana", 1, "a")]
    entries += [compare("mia", 2, "b")]
    assert majority(only(entries)) == [None, "tie", "b"]
    assert majority(only([rate("mia", 0, 4), rate("ben", 0, 4)])) == [4]
    assert majority_codes(np.array([[0, 0], [2, 1]])).tolist() == [-1, 0]


def test_consensus_of_a_draw_is_open_too():
    entries = [compare("mia", 0, "a"), compare("ben", 0, "b")]
    assert dawid_skene(only(entries)).values() == [None]
    entries = [compare(who, i, "ab"[i % 2]) for i in range(6) for who in ("mia", "ben")]
    assert dawid_skene(only(entries)).values() == ["a", "b"] * 3


def test_renaming_turns_the_consensus_with_it():
    rng = np.random.default_rng(3)
    _, answers = crowd(rng, num_units=80, each=3, num_values=3, right=np.full(6, 0.7))
    plain = dawid_skene(answers)
    values, people = np.array([2, 0, 1]), np.array([4, 2, 0, 5, 1, 3])
    turned = dawid_skene(
        table(
            values[answers.value].reshape(80, 3),
            people[answers.annotator].reshape(80, 3),
            answers.scale,
        )
    )
    assert turned.posterior[:, values] == pytest.approx(plain.posterior)
    assert turned.confusion[people][:, values][:, :, values] == pytest.approx(plain.confusion)
    assert turned.accuracies()[people] == pytest.approx(plain.accuracies())


def test_it_stops_when_told():
    rng = np.random.default_rng(4)
    _, answers = crowd(rng, num_units=50, each=3, num_values=3, right=np.full(6, 0.6))
    short = dawid_skene(answers, max_iterations=2)
    assert (len(short.log_likelihoods), short.converged) == (2, False)
    rise = 0.01 * len(answers)
    loose = dawid_skene(answers, tolerance=0.01)
    steps = np.diff(loose.log_likelihoods)
    assert loose.converged
    assert (steps[:-1] >= rise).all()
    assert steps[-1] < rise
