"""Endpoints are judged together: chance fails a harmless candidate no oftener than alpha."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_kvcache.measures.noninferiority import Differences, Means, judge
from pytest_kvcache.measures.paired import ALPHA, Interval, mean_interval
from pytest_kvcache.measures.power import (
    BETA,
    detectable_difference,
    detectable_mean,
    fails_from,
    further_prompts,
)

RNG = np.random.default_rng(11)


def means(mean: float, spread: float = 1.0, n: int = 32) -> Means:
    """Return a symmetric sample with exactly this mean and standard deviation."""
    values = np.where(np.arange(n) % 2, 1.0, -1.0)
    return Means(mean + spread * values / values.std(ddof=1))


def test_within_beyond_and_between() -> None:
    samples = {"safe": means(0.0), "unclear": means(1.0), "bad": means(3.0)}
    judged = judge(samples, dict.fromkeys(samples, 1.0))
    assert [(j.within, j.beyond) for j in judged.values()] == [(True, False), (False, False), (False, True)]


def test_one_endpoint_alone_is_tested_at_the_whole_level() -> None:
    nearly = means(0.37)
    assert judge({"a": nearly}, {"a": 0.0})["a"].beyond
    together = judge({"a": nearly, "b": means(-5.0)}, {"a": 0.0, "b": 0.0})["a"]
    assert together.suspect
    assert not together.beyond
    assert together.alpha == ALPHA / 2


def test_what_is_proven_already_makes_the_rest_easier() -> None:
    samples = {"a": means(0.37), "b": means(5.0)}
    assert all(j.beyond for j in judge(samples, {"a": 0.0, "b": 0.0}).values())


def test_a_harm_on_every_margin_rarely_fails_for_any_endpoint() -> None:
    trials = 1500
    values = RNG.normal(size=(trials, 8, 32))
    names = [str(i) for i in range(8)]
    margins = dict.fromkeys(names, 0.0)

    def fails(trial: int) -> bool:
        samples = {name: Means(values[trial, i]) for i, name in enumerate(names)}
        return any(j.beyond for j in judge(samples, margins).values())

    false = np.mean([fails(trial) for trial in range(trials)])
    assert false < ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / trials)


def test_nothing_is_judged_where_nothing_was_measured() -> None:
    assert judge({}, {}) == {}


def test_differences_count_who_has_the_fault_alone() -> None:
    sample = Differences(np.array([1] * 11 + [-1] * 4 + [0] * 45, dtype=np.int8))
    assert sample.interval().value == pytest.approx(7 / 60)
    assert sample.interval().n == 60


@pytest.mark.parametrize("n", [16, 32, 100])
def test_a_detectable_mean_is_found_as_often_as_promised(n: int) -> None:
    harm = detectable_mean(1.0, n, 0.1, ALPHA)
    found = np.mean([mean_interval(RNG.normal(harm, 1.0, n)).low > 0.1 for _ in range(2000)])
    assert found == pytest.approx(1 - BETA, abs=0.04)


def harmed(count: int, n: int) -> Differences:
    return Differences(np.repeat(np.array([1, 0], dtype=np.int8), [count, n - count]))


def power(share: float, n: int, margin: float, alpha: float) -> float:
    """Return how often the decision itself fails where each of ``n`` pairs is harmed so often, exactly."""
    return sum(
        math.comb(n, count) * share**count * (1 - share) ** (n - count)
        for count in range(n + 1)
        if harmed(count, n).interval(alpha).low > margin
    )


@pytest.mark.parametrize("n", [16, 24, 32, 64])
@pytest.mark.parametrize("alpha", [ALPHA, ALPHA / 9])
def test_a_detectable_difference_is_the_least_that_is_found_as_often_as_promised(
    n: int, alpha: float
) -> None:
    harm = harmed(0, n).detectable(0.1, alpha)
    assert harm is not None
    assert power(harm, n, 0.1, alpha) >= 1 - BETA > power(harm - 0.001, n, 0.1, alpha)


@pytest.mark.parametrize(
    ("n", "alpha"), [(1, ALPHA), (4, ALPHA), (4, ALPHA / 9), (5, ALPHA / 9), (8, ALPHA / 9)]
)
def test_no_difference_is_detectable_where_all_pairs_together_prove_nothing(n: int, alpha: float) -> None:
    assert not harmed(n, n).interval(alpha).low > 0.1
    assert harmed(0, n).detectable(0.1, alpha) is None


def test_what_is_detectable_does_not_depend_on_what_was_found() -> None:
    assert harmed(20, 32).detectable(0.1, ALPHA) == harmed(0, 32).detectable(0.1, ALPHA)


@settings(deadline=None)
@given(st.integers(1, 3000), st.floats(0, 0.5), st.sampled_from([ALPHA, ALPHA / 9]))
def test_a_detectable_difference_is_a_share_beyond_the_margin(n: int, margin: float, alpha: float) -> None:
    harm = detectable_difference(n, margin, alpha)
    assert harm is None or margin < harm <= 1
    count = fails_from(n, margin, alpha)
    assert (count is None) == (harm is None)
    if count is not None:
        assert harmed(count, n).interval(alpha).low > margin >= harmed(count - 1, n).interval(alpha).low


@pytest.mark.parametrize("mean", [0.7, 1.3])
def test_as_many_more_prompts_as_it_says_decide_in_four_of_five_runs(mean: float) -> None:
    interval = means(mean).interval()
    more = further_prompts(interval, 1.0)
    assert more is not None
    runs = [mean_interval(RNG.normal(mean, 1.0, 32 + more)) for _ in range(2000)]
    decided = np.mean([run.high < 1 if mean < 1 else run.low > 1 for run in runs])
    assert decided == pytest.approx(1 - BETA, abs=0.05)


def test_on_the_margin_no_number_of_prompts_decides() -> None:
    assert further_prompts(Interval(0.1, 0.05, 0.15, 32), 0.1) is None
    assert further_prompts(Interval(0.1001, 0.05, 0.15, 32), 0.1) is None


def test_what_decides_already_needs_but_one_more() -> None:
    assert further_prompts(Interval(0.0, -0.01, 0.01, 32), 0.1) == 1
