"""Intervals hold what they promise, for few and for skewed values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_kvcache.measures.paired import (
    Z,
    mean_interval,
    median_interval,
    normal_point,
    paired_difference_interval,
    share_interval,
    student_t,
)

COUNTS = st.integers(1, 80).flatmap(
    lambda n: st.integers(0, n).flatmap(lambda b: st.tuples(st.just(b), st.integers(0, n - b), st.just(n)))
)


@pytest.mark.parametrize(
    ("freedom", "point"),
    [(1, 12.70620), (2, 4.30265), (3, 3.18245), (4, 2.77645), (5, 2.57058), (15, 2.13145), (199, 1.97196)],
)
def test_students_t_is_that_of_the_tables(freedom: int, point: float) -> None:
    assert student_t(freedom) == pytest.approx(point, abs=1e-5)


@pytest.mark.parametrize(
    ("freedom", "alpha", "point"),
    [(1, 0.001, 318.309), (2, 0.005, 9.925), (10, 0.001, 4.144), (30, 0.005, 2.750), (120, 0.2, 0.845)],
)
def test_students_t_has_every_level(freedom: int, alpha: float, point: float) -> None:
    assert student_t(freedom, alpha) == pytest.approx(point, abs=1e-3)


def test_students_t_becomes_normal() -> None:
    assert student_t(100_000, 0.003) == pytest.approx(normal_point(0.003), abs=1e-4)


@pytest.mark.parametrize(("freedom", "alpha"), [(0, 0.025), (3, 0.0), (3, 0.5)])
def test_a_point_that_does_not_exist_is_refused(freedom: int, alpha: float) -> None:
    with pytest.raises(ValueError, match="no point of Student's t"):
        student_t(freedom, alpha)


def test_a_stricter_level_widens_every_interval() -> None:
    values = [0.1, 0.5, 0.2, 0.9, 0.4]
    for wide, narrow in (
        (mean_interval(values, 0.005), mean_interval(values)),
        (paired_difference_interval(4, 1, 20, 0.005), paired_difference_interval(4, 1, 20)),
    ):
        assert wide.low < narrow.low < narrow.value == wide.value < narrow.high < wide.high


def test_the_mean_of_symmetric_values_has_students_interval() -> None:
    values = [0.0, 1.0] * 8
    interval = mean_interval(values)
    half = 2.13145 * float(np.std(values, ddof=1)) / 4
    assert (interval.value, interval.n) == (0.5, 16)
    assert (interval.low, interval.high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-4)


@pytest.mark.parametrize("n", [16, 32, 64])
def test_the_mean_of_skewed_values_is_covered_at_both_ends(n: int) -> None:
    rng = np.random.default_rng(7)
    trials = [mean_interval(rng.gamma(0.8, 1.25, n).tolist()) for _ in range(1500)]
    too_low = np.mean([trial.high < 1 for trial in trials])
    too_high = np.mean([trial.low > 1 for trial in trials])
    assert too_low < 0.055, "Student's interval misses 5 to 10 % here"
    assert too_high < 0.04


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=60))
def test_an_interval_of_a_mean_holds_the_mean_and_turns_with_the_sign(values: list[float]) -> None:
    interval, turned = mean_interval(values), mean_interval([-value for value in values])
    assert interval.low - 1e-9 <= interval.value <= interval.high + 1e-9
    assert (turned.low, turned.high) == pytest.approx((-interval.high, -interval.low), abs=1e-6)


def test_values_whose_cubes_vanish_still_have_an_interval() -> None:
    interval = mean_interval([0.0, 0.0, 6e-109])
    assert interval.low <= interval.value <= interval.high


def test_equal_values_leave_no_doubt() -> None:
    interval = mean_interval([0.25] * 16)
    assert (interval.low, interval.high) == (0.25, 0.25)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [1.0, math.inf]])
def test_a_mean_of_too_few_or_broken_values_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="at least two values, all finite"):
        mean_interval(values)


def constrained_score(first: int, second: int, n: int, delta: float) -> float:
    """Return Tango's statistic with the likelihood maximised by brute force."""
    share = np.linspace(max(0, -delta) + 1e-9, (1 - delta) / 2 - 1e-9 if delta > -1 else 1, 400_001)
    rest = 1 - 2 * share - delta
    with np.errstate(divide="ignore", invalid="ignore"):
        likelihood = (
            first * np.log(share + delta) + second * np.log(share) + (n - first - second) * np.log(rest)
        )
    best = share[np.nanargmax(likelihood)]
    return float((first - second - n * delta) / math.sqrt(n * (2 * best + delta * (1 - delta))))


@pytest.mark.parametrize(("first", "second", "n"), [(11, 4, 60), (12, 7, 60), (24, 1, 60), (3, 9, 32)])
def test_the_paired_difference_ends_where_the_score_test_rejects(first: int, second: int, n: int) -> None:
    interval = paired_difference_interval(first, second, n)
    assert constrained_score(first, second, n, interval.low) == pytest.approx(Z, abs=0.01)
    assert constrained_score(first, second, n, interval.high) == pytest.approx(-Z, abs=0.01)


@pytest.mark.parametrize("n", [1, 16, 60])
def test_no_discordant_pair_leaves_the_doubt_of_the_score_test(n: int) -> None:
    interval = paired_difference_interval(0, 0, n)
    doubt = Z**2 / (n + Z**2)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0, -doubt, doubt), abs=1e-9)


@given(COUNTS)
def test_an_interval_of_a_difference_is_in_bounds_and_turns_with_the_sides(
    counts: tuple[int, int, int],
) -> None:
    first, second, n = counts
    interval, turned = (
        paired_difference_interval(first, second, n),
        paired_difference_interval(second, first, n),
    )
    assert -1 <= interval.low <= interval.value + 1e-9
    assert interval.value - 1e-9 <= interval.high <= 1
    assert (turned.low, turned.high) == pytest.approx((-interval.high, -interval.low), abs=1e-6)


@pytest.mark.parametrize("counts", [(1, 1, 1), (-1, 0, 4), (0, 0, 0)])
def test_impossible_counts_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="impossible counts"):
        paired_difference_interval(*counts)


def test_a_share_has_wilsons_interval() -> None:
    interval = share_interval(12, 60)
    assert (interval.low, interval.high) == pytest.approx((0.1183, 0.3178), abs=1e-4)
    assert share_interval(0, 10).low == 0
    assert share_interval(10, 10).high == 1


def test_a_median_lies_between_the_innermost_values_that_are_sure_enough() -> None:
    interval = median_interval([float(k) for k in reversed(range(1, 21))])
    assert (interval.value, interval.low, interval.high, interval.n) == (10.5, 6, 15, 20)
    six = median_interval([1, 2, 3, 4, 5, 9])
    assert (six.low, six.high) == (1, 9)


def test_a_median_of_a_few_values_reaches_over_all_of_them() -> None:
    assert median_interval([3]).low == median_interval([3]).high == 3
    few = median_interval([1, 2, 7])
    assert (few.value, few.low, few.high) == (2, 1, 7)
