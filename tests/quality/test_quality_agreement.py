"""Agreement with intervals: published values, slow twins, and intervals that cover."""

from itertools import combinations
from math import comb

import krippendorff
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from quality_crowd import compare, crowd, only, rank, rate, thumb
from scipy.stats import bootstrap
from test_agreement import FOUR

from backflip.quality import agreement_figures
from backflip.quality.reliability import (
    coefficients_of,
    gwet_ac,
    krippendorff_alpha,
    measure_agreement,
    raw_agreement,
)
from backflip.statistics import MIN_ITEMS, Estimate, Withheld, wilson
from backflip.statistics.bootstrap import Stock

# Gwet (2014), table 3.5 (pages 80-84 with errata): two raters, categories A to C as 1 to 3.
TABLE_3_5 = [[1], [2, 3], [3, 3], [3, 3], [2, 2], [2], [1, 1], [1, 2], [2, 2], [2, 2], [3]]
# Gwet (2014), pages 89-90: lengths of fish by four raters.
FISH = [
    *([1, 1.5, 1], [2, 2, 2, 2], [0.5, 1, 1.5, 1.5], [1, 1, 1, 1], [1, 1, 1, 1.5], [1, 2.5]),
    *([2.5, 2.5, 2.5, 2.5], [1, 1, 1], [1, 2, 1], [1, 1, 0.5, 1], [1.5, 1.5, 1.5, 1.5]),
    *([1, 1.5, 1], [1, 1, 1.5], [1, 2, 2.5, 2], [1, 1.5, 1], [0.5, 0.5, 0.5, 0.5]),
]


@pytest.mark.parametrize(
    ("units", "level", "published"),
    [
        (FOUR, "nominal", 0.77544),  # Gwet (2014), pages 55-56, and R's irrCAC
        (FOUR, "ordinal", 0.899),  # irrCAC, ordinal weights
        (FOUR, "interval", 0.914),  # irrCAC, quadratic weights
        (TABLE_3_5, "interval", 0.8261),
        (FISH, "interval", 0.7755),
    ],
)
def test_gwets_coefficient_is_the_published_one(units, level, published):
    digits = len(str(published)) - 2
    assert gwet_ac(units, level=level) == pytest.approx(published, abs=0.5 * 10**-digits)


def test_alpha_of_gwets_examples_is_the_published_one():
    assert krippendorff_alpha(TABLE_3_5, level="interval") == pytest.approx(0.7581, abs=5e-5)
    assert krippendorff_alpha(FISH, level="interval") == pytest.approx(0.6180, abs=5e-5)


LEVELS = st.sampled_from(["nominal", "ordinal", "interval"])
UNITS = st.lists(st.lists(st.integers(1, 5), max_size=5), min_size=1, max_size=10)


def slow_ac(units, level, scale):
    """AC2 pair by pair, with the weights of Gwet (2014), section 3.5, as binomials."""
    size = len(scale)

    def weight(c, k):
        if level == "nominal":
            return float(c == k)
        steps = abs(scale.index(c) - scale.index(k))
        if level == "ordinal":
            return 1 - comb(steps + 1, 2) / comb(size, 2)
        return 1 - ((c - k) / (scale[-1] - scale[0])) ** 2

    def mean(numbers):
        return sum(numbers) / len(numbers)

    observed = mean(
        [mean([weight(c, k) for c, k in combinations(unit, 2)]) for unit in units if len(unit) > 1]
    )
    shares = [mean([unit.count(c) / len(unit) for unit in units if unit]) for c in scale]
    spread = sum(weight(c, k) for c in scale for k in scale) / (size * (size - 1))
    chance = spread * sum(share * (1 - share) for share in shares)
    return (observed - chance) / (1 - chance)


@given(UNITS, LEVELS, st.sampled_from([(1, 2, 3, 4, 5), (1, 2, 3, 4, 5, 6, 7)]))
def test_ac_equals_its_slow_twin(units, level, scale):
    assume(any(len(unit) > 1 for unit in units))
    found = gwet_ac(units, level=level, scale=scale)
    assert found == pytest.approx(slow_ac(units, level, scale))


@given(UNITS, LEVELS)
def test_alpha_equals_that_of_the_krippendorff_package(units, level):
    assume(len({v for unit in units if len(unit) > 1 for v in unit}) > 1)
    counts = [[unit.count(v) for v in range(1, 6)] for unit in units if len(unit) > 1]
    oracle = krippendorff.alpha(
        value_counts=np.array(counts), value_domain=[1, 2, 3, 4, 5], level_of_measurement=level
    )
    assert krippendorff_alpha(units, level=level) == pytest.approx(oracle)


def test_ac_holds_where_all_say_the_same_and_alpha_does_not():
    assert gwet_ac([[1, 1], [1, 1]], scale=(0, 1)) == 1.0
    # 98 of 100 units agree on 1: alpha calls that chance, AC1 does not.
    units = [[1, 1]] * 98 + [[1, 0], [0, 1]]
    shares = 0.99 * 0.01 + 0.01 * 0.99
    assert gwet_ac(units) == pytest.approx((0.98 - shares) / (1 - shares))
    assert krippendorff_alpha(units) == pytest.approx(1 - 4 / 200 / (2 * 198 * 2 / (200 * 199)))
    assert krippendorff_alpha(units) < 0


def test_nothing_to_compare_gives_no_coefficient():
    assert gwet_ac([[1], [2], []]) is None
    assert gwet_ac([[1, 1]]) is None  # one value is no scale
    assert gwet_ac([]) is None
    assert raw_agreement([]) is None


def test_rankings_are_measured_pair_by_pair():
    entries = [
        rank("mia", {"x": 1, "y": 2, "z": 3}),
        rank("ben", {"z": 1, "x": 2, "y": 2}),
        rank("mia", {"p": 1, "q": 2}),
        rank("ben", {"q": 2, "p": 1}),
        rank("mia", {"alone": 1, "x": 2}),
    ]
    (found,) = measure_agreement(entries)
    # xy: a tie; xz: a b; yz: a b; pq: a a; and alone-x answered once.
    units = [["a", "tie"], ["a", "b"], ["a", "b"], ["a", "a"], ["a"]]
    assert (found.kind, found.num_units, found.num_pairs) == ("ranking", 4, 4)
    assert found.raw == 1 / 4
    assert found.alpha == krippendorff_alpha(units)
    assert found.ac == gwet_ac(units, scale=("a", "b", "tie"))


def draws(seed, **how):
    _, answers = crowd(np.random.default_rng(seed), **how)
    return answers


def values_of(figures):
    return [figure.value for figure in (figures.raw, figures.alpha, figures.ac)]


def test_figures_hold_the_coefficients_and_their_intervals():
    entries = [rate(f"who-{w}", i, 1 + (i + (i * w) % 3) % 5) for i in range(40) for w in range(3)]
    figures = agreement_figures(only(entries), np.random.default_rng(0))
    (plain,) = measure_agreement(entries)
    assert values_of(figures) == pytest.approx([plain.raw, plain.alpha, plain.ac])
    assert (figures.kind, figures.axis, figures.num_items) == ("rating", "overall", 40)
    for figure in (figures.raw, figures.alpha, figures.ac):
        assert figure.low < figure.value < figure.high
        assert figure.count == 40


def test_same_seed_same_interval_and_another_seed_another():
    answers = draws(1, num_units=60, each=3, num_values=3, right=np.full(5, 0.7))
    again = [agreement_figures(answers, np.random.default_rng(s)).alpha for s in (0, 0, 1)]
    assert again[0] == again[1]
    assert again[0].low != again[2].low


@pytest.fixture(scope="module")
def drawn():
    """(30, 4) indices of three values, the first of them the most frequent."""
    rng = np.random.default_rng(4)
    return rng.integers(0, 3, (30, 4)) * (rng.random((30, 4)) < 0.6)


def relabelled(drawn, names, labels):
    entries = [
        compare(f"who-{names[w]}", i, labels[drawn[i, w]]) for i in range(30) for w in range(4)
    ]
    return agreement_figures(only(entries), np.random.default_rng(0))


@pytest.mark.parametrize("names", [(0, 1, 2, 3), (2, 3, 1, 0)])
@pytest.mark.parametrize("labels", [("a", "b", "tie"), ("tie", "a", "b"), ("b", "a", "tie")])
def test_renaming_values_and_annotators_changes_nothing(drawn, names, labels):
    plain = relabelled(drawn, (0, 1, 2, 3), ("a", "b", "tie"))
    renamed = relabelled(drawn, names, labels)
    assert values_of(renamed) == pytest.approx(values_of(plain))
    widths = [[f.high - f.low for f in (x.raw, x.alpha, x.ac)] for x in (plain, renamed)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)


def test_few_items_say_so():
    entries = [compare(who, i, "a" if i % 3 else "b") for i in range(19) for who in ("mia", "ben")]
    entries += [compare("mia", i, "a") for i in range(100, 200)]  # answered once
    why = Withheld("fewer than 20 items answered twice", 19)
    figures = agreement_figures(only(entries), np.random.default_rng(0))
    assert (figures.raw, figures.alpha, figures.ac) == (why, why, why)
    entries.append(compare("ben", 100, "b"))
    figures = agreement_figures(only(entries), np.random.default_rng(0))
    assert figures.num_items == MIN_ITEMS == 20
    assert isinstance(figures.alpha, Estimate)


def test_one_voice_has_an_interval_still():
    entries = [compare(who, i, "ab"[i % 2]) for i in range(40) for who in ("mia", "ben", "ana")]
    figures = agreement_figures(only(entries), np.random.default_rng(0))
    assert values_of(figures) == [1, 1, 1]
    # Three pairs a question: as if 3.84 questions more had one pair each, which disagrees.
    z = 1.959963984540054
    assert figures.raw.low == pytest.approx(120 / (120 + z * z))
    entries = [entry for entry in entries if entry.annotator != "ana"]
    figures = agreement_figures(only(entries), np.random.default_rng(0), confidence=0.9)
    assert figures.raw.low == pytest.approx(wilson(40, 40, 0.9).low)
    assert figures.raw.high == figures.alpha.high == figures.ac.high == 1
    # Half the chance of agreeing: what disagrees counts twice against alpha.
    assert 1 - figures.alpha.low == pytest.approx(2 * (1 - figures.raw.low), rel=0.02)


def test_where_all_say_the_same_alpha_is_withheld():
    entries = [thumb(who, i, True) for i in range(30) for who in ("mia", "ben")]
    figures = agreement_figures(only(entries), np.random.default_rng(0))
    assert figures.alpha == Withheld("nearly every answer is the same", 30)
    assert figures.ac.value == 1
    # One that differs: a resample in three has none of it, so no interval of alpha either.
    entries[0] = thumb("mia", 0, False)
    figures = agreement_figures(only(entries), np.random.default_rng(0))
    assert isinstance(figures.alpha, Withheld)
    assert figures.raw.value == 29 / 30


@pytest.mark.parametrize("number", [[700, 200, 99, 1], [1] * 300])
def test_resampled_sums_have_the_moments_of_drawing_questions(number):
    """Means and covariances of sums over n draws: n mean(x), n cov(x); both ways of drawing."""
    rng = np.random.default_rng(2)
    parts = rng.normal(size=(len(number), 2))
    stock = Stock(parts, np.array(number))
    drawn = stock.draw(rng, 20_000)
    questions = np.repeat(parts, number, axis=0)
    size = len(questions)
    assert stock.sums == pytest.approx(questions.sum(0))
    spread = np.cov(questions.T, bias=True) * size
    error = 5 * np.sqrt(np.diag(spread) / len(drawn))
    assert (np.abs(drawn.mean(0) - stock.sums) < error).all()
    assert np.cov(drawn.T) == pytest.approx(spread, rel=0.06, abs=0.02 * spread.max())


def scipys_interval(statistic, count):
    return bootstrap(
        (np.arange(count),),
        statistic,
        vectorized=False,
        n_resamples=9999,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval


def test_the_interval_of_alpha_is_scipys_bca():
    answers = draws(3, num_units=60, each=3, num_values=2, right=np.full(4, 0.85))
    counts = answers.counts()

    def alpha(chosen):
        """Alpha of two values and three answers each, from the number of "a" alone."""
        some = counts[chosen, 0]
        apart = (some * (3 - some)).sum()
        total, ones = 3 * len(some), some.sum()
        return 1 - (total - 1) * apart / 2 * 2 / (2 * ones * (total - ones))

    assert alpha(np.arange(60)) == pytest.approx(
        krippendorff_alpha([[0] * int(a) + [1] * int(b) for a, b in counts])
    )
    oracle = scipys_interval(alpha, 60)
    found = agreement_figures(answers, np.random.default_rng(0), num_resamples=9999).alpha
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), abs=0.01)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_interval_of_a_skewed_share_is_scipys_bca(seed):
    """Few questions with many answers, and divided: plain percentiles are off by 0.02 and 0.03."""
    rng = np.random.default_rng(seed)
    entries, agreeing, pairs = [], [], []
    for i in range(40):
        asked = 2 + int(rng.exponential(1.5) ** 1.7)
        chose = rng.binomial(asked, 0.5 if asked > 3 else 0.03)
        entries += [compare(f"who-{w}", i, "b" if w < chose else "a") for w in range(asked)]
        agreeing.append(comb(chose, 2) + comb(asked - chose, 2))
        pairs.append(comb(asked, 2))
    agreeing, pairs = np.array(agreeing), np.array(pairs)
    oracle = scipys_interval(lambda chosen: agreeing[chosen].sum() / pairs[chosen].sum(), 40)
    found = agreement_figures(only(entries), np.random.default_rng(0), num_resamples=9999).raw
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), abs=0.006)


@pytest.mark.parametrize(
    ("right", "each", "num_units", "confidence", "least", "most"),
    [
        (0.8, 3, 40, 0.95, 0.91, 0.99),
        (0.8, 3, 40, 0.8, 0.73, 0.87),
        # Near full agreement one sample in ten is of one voice, and discreteness adds to caution.
        (0.95, 2, 25, 0.95, 0.91, 1.0),
    ],
)
def test_intervals_cover_what_they_promise(right, each, num_units, confidence, least, most):
    """Two values, equally likely: raw r = p p + q q, and alpha = AC1 = 2 r - 1 in the long run."""
    raw = right**2 + (1 - right) ** 2
    truth = (raw, 2 * raw - 1, 2 * raw - 1)
    rng = np.random.default_rng(5)
    covered = np.zeros(3)
    runs = 300
    people = np.full(each, right)
    for _ in range(runs):
        _, answers = crowd(rng, num_units=num_units, each=each, num_values=2, right=people)
        figures = agreement_figures(answers, rng, num_resamples=400, confidence=confidence)
        found = (figures.raw, figures.alpha, figures.ac)
        covered += [f.low <= t <= f.high for f, t in zip(found, truth, strict=True)]
    # Three standard errors of 300 runs are 4 points at 95%, and 7 at 80%.
    assert (covered / runs > least).all()
    assert (covered / runs <= most).all()


def test_rankings_are_resampled_as_questions():
    """Six pairs that always go together are worth one question, not six."""
    rng = np.random.default_rng(6)
    ranked, compared = [], []
    for i in range(80):
        names = [f"q{i}-{j}" for j in range(4)]
        for who in ("mia", "ben"):
            turned = rng.random() < 0.3
            ranked.append(rank(who, {n: 4 - j if turned else 1 + j for j, n in enumerate(names)}))
            compared.append(compare(who, i, "b" if turned else "a"))
    many = agreement_figures(only(ranked), np.random.default_rng(0))
    few = agreement_figures(only(compared), np.random.default_rng(0))
    assert many.num_items == few.num_items == 80
    assert many.raw.value == few.raw.value
    width = many.raw.high - many.raw.low
    assert width == pytest.approx(few.raw.high - few.raw.low, rel=0.1)


def test_a_unit_weighs_in_the_coefficients_by_its_sums():
    """Sums are linear: two of a unit are the unit twice, for every coefficient."""
    answers = draws(7, num_units=30, each=3, num_values=3, right=np.full(4, 0.7))
    coefficients = coefficients_of(answers)
    counts = answers.counts()
    weights = np.arange(30) % 4
    twice = coefficients.parts(np.repeat(counts, weights, axis=0)).sum(0)
    weighted = weights @ coefficients.parts(counts)
    assert weighted == pytest.approx(twice)
    stacked = np.stack([weighted, coefficients.parts(counts).sum(0)])
    for read in (coefficients.raw, coefficients.alpha, coefficients.ac):
        assert read(stacked)[0] == pytest.approx(read(twice))
