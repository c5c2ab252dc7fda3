"""The statistics against scipy and against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pass_core.evaluation.statistics import (
    chi_square,
    chi_square_critical,
    chi_square_power,
    chi_square_tail,
    detectable_noncentrality,
    mean_interval,
    median_interval,
    pass_at_k,
    ratio_interval,
    share_interval,
)


@pytest.mark.parametrize(("value", "df"), [(3.0, 1), (12.5, 7), (90.0, 40), (0.0, 3)])
def test_tail_is_scipys(value: float, df: int) -> None:
    assert chi_square_tail(value, df) == pytest.approx(stats.chi2.sf(value, df), rel=1e-9)
    assert chi_square_critical(df, 0.001) == pytest.approx(stats.chi2.isf(0.001, df), rel=1e-6)


@pytest.mark.parametrize(("noncentrality", "df"), [(0.0, 4), (15.0, 9), (60.0, 30)])
def test_power_is_scipys(noncentrality: float, df: int) -> None:
    expected = stats.ncx2.sf(stats.chi2.isf(0.001, df), df, noncentrality) if noncentrality else 0.001
    assert chi_square_power(noncentrality, df, 0.001) == pytest.approx(expected, rel=1e-4)


def test_detectable_noncentrality_reaches_the_power() -> None:
    assert chi_square_power(detectable_noncentrality(12, 0.01, 0.9), 12, 0.01) == pytest.approx(0.9, abs=1e-6)


def test_identical_draws_give_pearsons_statistic() -> None:
    p = np.array([0.4, 0.3, 0.2, 0.1])
    observed = np.array([35, 33, 22, 10])
    result = chi_square([p], observed, level=0.001)
    expected = stats.chisquare(observed, 100 * p)
    assert result.statistic == pytest.approx(expected.statistic)
    assert result.p_value == pytest.approx(expected.pvalue)
    assert result.df == 3


def test_varying_draws_have_the_stated_level() -> None:
    generator = np.random.default_rng(1)
    rejected = 0
    for _ in range(400):
        p = generator.dirichlet(np.full(5, 0.5), size=300)
        drawn = (generator.random((300, 1)) > p.cumsum(1)).sum(1)
        rejected += chi_square(p, np.bincount(drawn, minlength=5), level=0.05).p_value < 0.05
    assert 6 <= rejected <= 36  # 20 expected, standard deviation 4.4


def test_stated_detectable_shift_is_detected_nine_times_in_ten() -> None:
    generator = np.random.default_rng(2)
    p = np.array([0.5, 0.2, 0.15, 0.1, 0.05])
    shift = chi_square([p], 1000 * p, level=0.01).detectable
    shifted = p * (1 - shift / 0.5)
    shifted[0] = 0.5 + shift
    power = np.mean(
        [chi_square([p], generator.multinomial(1000, shifted), level=0.01).p_value < 0.01 for _ in range(400)]
    )
    assert 0.84 <= power <= 0.96


def test_rare_bins_are_pooled_and_impossible_ones_condemn() -> None:
    p = np.array([0.5, 0.47, 0.02, 0.01, 0.0])
    result = chi_square([p], [50, 47, 2, 1, 0], level=0.01)
    assert result.bins == 2
    assert chi_square([p], [50, 46, 2, 1, 1], level=0.01).p_value == 0.0


def test_total_variation_bound_holds_under_the_null() -> None:
    generator = np.random.default_rng(3)
    p = generator.dirichlet(np.ones(12))
    results = [chi_square([p], generator.multinomial(400, p), level=0.01) for _ in range(300)]
    assert sum(r.total_variation > r.total_variation_bound for r in results) <= 9


def test_median_interval_covers_as_it_says() -> None:
    generator = np.random.default_rng(4)
    covered = 0
    for _ in range(500):
        interval = median_interval(list(generator.exponential(size=15)))
        covered += interval.low <= np.log(2) <= interval.high
    assert covered >= 500 * 0.94
    assert median_interval([3.0, 1.0, 2.0]) == median_interval([1.0, 2.0, 3.0])
    few = median_interval([3.0, 1.0, 2.0])
    assert (few.low, few.median, few.high) == (1.0, 2.0, 3.0)


def test_an_interval_is_stated_from_five_observations_on() -> None:
    four, five = median_interval([1.0, 2.0, 3.0, 4.0]), median_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (four.ends, four.text(1)) == (None, "2.5 (n = 4)")
    assert (five.ends, five.text(1)) == ((1.0, 5.0), "3.0 (1.0–5.0, n = 5)")
    assert share_interval([1.0] * 2).text(0, scale=100, unit=" %") == "100 % (n = 2)"


def test_ratio_interval_is_geometric_and_contains_its_estimate() -> None:
    interval = ratio_interval([2.0, 0.5, 2.0, 2.0])
    assert interval.median == pytest.approx(2.0**0.5)
    assert interval.low < interval.median < interval.high
    with pytest.raises(ValueError, match="positive"):
        ratio_interval([1.0, 0.0])


def test_mean_interval_of_equal_values_is_a_point() -> None:
    assert mean_interval([0.25] * 5) == mean_interval([0.25] * 5)
    assert mean_interval([0.25] * 5).low == pytest.approx(0.25)


def test_a_share_of_none_is_not_certain() -> None:
    wilson = stats.binomtest(0, 12).proportion_ci(method="wilson")
    none = share_interval([0.0] * 12)
    assert (none.low, none.high) == pytest.approx((wilson.low, wilson.high))
    some = stats.binomtest(30, 164).proportion_ci(method="wilson")
    share = share_interval([1.0] * 30 + [0.0] * 134)
    assert (share.low, share.high) == pytest.approx((some.low, some.high))
    assert share_interval([0.5, 0.2, 1.0]) == mean_interval([0.5, 0.2, 1.0])


@pytest.mark.parametrize(("n", "c", "k"), [(10, 3, 1), (10, 3, 5), (10, 0, 3), (10, 8, 5), (1, 1, 1)])
def test_pass_at_k_is_the_share_of_subsets_with_a_solution(n: int, c: int, k: int) -> None:
    from itertools import combinations

    subsets = list(combinations(range(n), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(min(s) < c for s in subsets) / len(subsets))
    with pytest.raises(ValueError, match="needs at least"):
        pass_at_k(n, c, n + 1)
