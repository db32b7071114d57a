import numpy as np
import pytest
from scipy import stats

from hvp_patching.frames import SMALLEST_SAMPLE
from hvp_patching.metrics.resampling import (
    BootstrapError,
    bootstrap_interval,
    paired_bootstrap_p,
    reduction,
    reduction_interval,
    significance_mark,
    smallest_p,
)

RNG = np.random.default_rng(5)
SAMPLE = RNG.gamma(2.0, size=40)


@pytest.mark.parametrize(("statistic", "function"), [("mean", np.mean), ("median", np.median)])
def test_interval_is_the_percentile_interval_of_resampled_prompts(statistic, function):
    low, high = bootstrap_interval(SAMPLE, statistic, n_resamples=4000)
    drawn = np.random.default_rng(99).choice(SAMPLE, size=(4000, len(SAMPLE)))
    expected = np.percentile(function(drawn, axis=1), [2.5, 97.5])
    width = expected[1] - expected[0]
    # another seed's resamples: equal up to Monte Carlo error
    assert np.abs(np.array([low, high]) - expected).max() < 0.1 * width
    assert low < function(SAMPLE) < high


def test_interval_of_a_large_sample_is_the_normal_one():
    sample = np.random.default_rng(0).normal(3, 1, size=2000)
    low, high = bootstrap_interval(sample)
    expected = stats.norm.interval(0.95, sample.mean(), sample.std() / np.sqrt(2000))
    assert (low, high) == pytest.approx(expected, abs=0.01)


def test_seed_decides():
    assert bootstrap_interval(SAMPLE, seed=3) == bootstrap_interval(SAMPLE, seed=3)
    assert bootstrap_interval(SAMPLE, seed=3) != bootstrap_interval(SAMPLE, seed=4)
    other = SAMPLE + RNG.normal(0, 1, size=40)
    assert paired_bootstrap_p(SAMPLE, other, seed=1) == paired_bootstrap_p(SAMPLE, other, seed=1)


def test_two_prompts_span_their_two_values():
    assert bootstrap_interval([1.0, 3.0]) == (1.0, 3.0)


def test_one_prompt_has_no_interval_no_p_and_no_mark():
    assert np.isnan(bootstrap_interval([1.0])).all()
    p = paired_bootstrap_p([1.0], [2.0])
    assert np.isnan(p)
    assert significance_mark([1.0], [2.0], p) == "none"


def test_p_counts_both_tails_with_the_plus_one():
    # every resample's mean difference is negative: (0 + 1) / (1000 + 1), twice
    assert paired_bootstrap_p([1.0, 1.5, 2.0], [3.0, 4.0, 5.0]) == pytest.approx(2 / 1001)
    assert paired_bootstrap_p([3.0, 4.0], [1.0, 1.0]) == pytest.approx(2 / 1001)
    # no difference at all: both tails are full, and p is capped
    assert paired_bootstrap_p([1.0, 2.0], [1.0, 2.0]) == 1.0


def test_p_of_two_opposite_prompts_is_exact_up_to_sampling():
    # d* is -1, 1, 1, 3 with equal probability: P(d* <= 0) = 1/4
    p = paired_bootstrap_p([0.0, 3.0], [1.0, 0.0], n_resamples=20000)
    assert p == pytest.approx(0.5, abs=0.02)


def test_p_agrees_with_the_t_test_on_many_prompts():
    rng = np.random.default_rng(11)
    reference = rng.normal(0, 1, size=300)
    values = reference + rng.normal(0.1, 1, size=300)
    expected = stats.ttest_rel(values, reference).pvalue
    assert 0.005 < expected < 0.5
    assert paired_bootstrap_p(values, reference, 20000) == pytest.approx(expected, abs=0.02)


def test_pairs_matter():
    reference = np.arange(30.0)
    assert paired_bootstrap_p(reference - 0.1, reference) < 0.01
    assert paired_bootstrap_p((reference - 0.1)[::-1], reference) > 0.5


@pytest.mark.parametrize(
    ("values", "p", "mark"),
    [
        ([1.0, 2.0], 0.01, "better"),
        ([4.0, 5.0], 0.01, "worse"),
        ([1.0, 2.0], 0.05, "none"),
        ([1.0, 2.0], float("nan"), "none"),
    ],
)
def test_marks(values, p, mark):
    assert significance_mark(values, [3.0, 3.0], p) == mark


@pytest.mark.parametrize(("statistic", "function"), [("mean", np.mean), ("median", np.median)])
def test_reduction_interval_resamples_both_methods_together(statistic, function):
    values = SAMPLE * RNG.uniform(0.1, 0.4, size=40)
    low, high = reduction_interval(values, SAMPLE, statistic, n_resamples=4000)
    drawn = np.random.default_rng(99).integers(40, size=(4000, 40))
    reductions = 1 - function(values[drawn], axis=1) / function(SAMPLE[drawn], axis=1)
    expected = np.percentile(reductions, [2.5, 97.5])
    width = expected[1] - expected[0]
    assert np.abs(np.array([low, high]) - expected).max() < 0.1 * width
    assert low < 1 - function(values) / function(SAMPLE) < high


def test_the_same_reduction_on_every_prompt_has_no_width():
    # unpaired resamples would spread
    assert reduction_interval(0.3 * SAMPLE, SAMPLE, "mean") == pytest.approx((0.7, 0.7))
    low, high = reduction_interval(0.3 * SAMPLE[::-1], SAMPLE, "mean")
    assert high - low > 0.05


def test_reduction_interval_is_seeded_and_needs_two_prompts():
    values = SAMPLE * RNG.uniform(0.1, 0.4, size=40)
    first, second = (reduction_interval(values, SAMPLE, seed=s) for s in (3, 3))
    assert first == second != reduction_interval(values, SAMPLE, seed=4)
    narrow = reduction_interval(values, SAMPLE, level=0.5)
    assert first[0] < narrow[0] < narrow[1] < first[1]
    assert np.isnan(reduction_interval([1.0], [2.0])).all()


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_a_reduction_is_that_of_the_statistics_and_its_interval_holds_it(statistic):
    rng = np.random.default_rng(3)
    ap = rng.uniform(0.1, 0.4, size=40)
    hvp = ap * rng.uniform(0.1, 0.3, size=40)
    value, low, high = reduction(hvp, ap, statistic, n_resamples=500, seed=1)
    aggregate = getattr(np, statistic)
    assert value == pytest.approx(1 - aggregate(hvp) / aggregate(ap))
    # Every ratio lies between 0.1 and 0.3, and so does that of any resample's means.
    assert low < value < high
    if statistic == "mean":
        assert 0.7 < low < high < 0.9


def test_a_constant_ratio_has_no_spread():
    ap = np.array([0.1, 0.5, 0.9, 1.3])
    assert reduction(ap / 4, ap, "mean", n_resamples=200) == pytest.approx((0.75, 0.75, 0.75))


def test_no_reduction_from_nothing():
    assert np.isnan(reduction([0.1, 0.2], [0.0, 0.0], "mean")).all()
    assert np.isnan(reduction([], [], "mean")).all()
    # a prompt without a reference error leaves the value, and no interval
    value, *ends = reduction([0.1, 0.2], [0.3, 0.0], "mean")
    assert value == pytest.approx(0.0)
    assert np.isnan(ends).all()


def test_smallest_sample_is_the_sign_tests():
    def best(n):
        return stats.binomtest(n, n).pvalue

    assert best(SMALLEST_SAMPLE) < 0.05 < best(SMALLEST_SAMPLE - 1)


@pytest.mark.parametrize("n", range(1, 12))
def test_the_smallest_p_is_that_of_exact_tests(n):
    ours, theirs = np.linspace(1, 2, n), np.linspace(3, 5, n)
    expected = stats.binomtest(n, n).pvalue
    assert smallest_p(ours, theirs, 10**6) == pytest.approx(expected)
    assert stats.wilcoxon(ours - theirs, method="exact").pvalue == pytest.approx(expected)
    ties = np.ones(50)
    assert smallest_p([*ours, *ties], [*theirs, *ties], 10**6) == pytest.approx(expected)


def test_the_bootstrap_errs_as_often_as_signs_agree():
    """Every pattern of signs of n equal-sized differences, each as likely as the next."""
    for n in (2, 3, 4, 5):
        signs = np.array(np.meshgrid(*[[-1, 1]] * n)).reshape(n, -1).T
        sure = [paired_bootstrap_p(s, np.zeros(n), 2000) < 0.05 for s in signs]
        share = smallest_p(np.ones(n), np.zeros(n))
        assert np.mean(sure) >= share == 2 * 0.5**n > 0.05


def test_few_resamples_have_no_small_p_either():
    assert smallest_p(SAMPLE, SAMPLE + 1, 19) == pytest.approx(0.1)
    assert smallest_p(SAMPLE, SAMPLE) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_interval([]), "one number per prompt"),
        (lambda: bootstrap_interval([[1.0, 2.0]]), r"shape \(1, 2\)"),
        (lambda: bootstrap_interval([1.0, np.nan]), "prompt number 1 of 2 is nan"),
        (lambda: bootstrap_interval([1.0, 2.0], "mode"), "unknown statistic 'mode'"),
        (lambda: paired_bootstrap_p([1.0, 2.0], [1.0]), "got 2 and 1"),
        (lambda: reduction_interval([1.0, 2.0], [1.0]), "got 2 and 1"),
        (lambda: reduction([1.0, 2.0], [1.0, 2.0, 3.0]), "got 2 and 3"),
        (
            lambda: reduction_interval([1.0, 2.0], [1.0, 0.0]),
            "reference: prompt number 1 of 2 is 0",
        ),
        (lambda: reduction_interval([1.0, 2.0], [1.0, 2.0], "mode"), "unknown statistic 'mode'"),
    ],
)
def test_refused_values(call, message):
    with pytest.raises(BootstrapError, match=message):
        call()
