"""Paired statistics: intervals for what is measured once per prompt.

All of them are deterministic: no resampling, so that the same run gives the same verdict. A gate uses
one end of an interval at a time, so levels are those of one end: 2.5 % each make a two-sided 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from statistics import NormalDist, median

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.025
"""How often one end of an interval misses: two ends make 95 %."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate from ``n`` prompts with its interval, 95 % unless another level was asked for."""

    value: float
    low: float
    high: float
    n: int


def normal_point(alpha: float) -> float:
    """Return the point that a standard normal variable exceeds with probability ``alpha``."""
    return NormalDist().inv_cdf(1 - alpha)


Z = normal_point(ALPHA)


def mean_interval(values: Sequence[float] | NDArray[np.float64], alpha: float = ALPHA) -> Interval:
    """Return the mean of at least two finite values with Student's t interval, corrected for skewness.

    Harm per prompt is skewed: a few prompts carry most of it. Then a symmetric interval, and the
    bootstrap for so few values, ends too low, and a gate that asks for the upper end lets too much pass.
    The correction is Hall's monotone transformation ("On the Removal of Skewness by Transformation",
    Journal of the Royal Statistical Society B 54, 1992); ``docs/measures.md`` compares them.

    Raises ValueError for fewer than two values, or one that is not finite.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size < 2 or not np.isfinite(data).all():
        raise ValueError(f"a mean needs at least two values, all finite (got {data.size})")
    mean, spread = float(data.mean()), float(data.std(ddof=1))
    point = student_t(data.size - 1, alpha) / math.sqrt(data.size)
    skew = _skewness(data)
    return Interval(
        mean,
        mean - spread * _unskewed(point, skew, data.size),
        mean - spread * _unskewed(-point, skew, data.size),
        data.size,
    )


def share_interval(count: int, n: int) -> Interval:
    """Return ``count / n`` with Wilson's score interval (1927); n is at least 1."""
    share = count / n
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    low = 0.0 if count == 0 else centre - half
    high = 1.0 if count == n else centre + half
    return Interval(share, low, high, n)


def median_interval(values: Sequence[float]) -> Interval:
    """Return the median of at least one value with its interval between two of them.

    The ends are the innermost order statistics that miss with probability ``ALPHA`` each at most, whatever
    the values' distribution; below six values none are as sure, and the least and the largest stand for them.
    """
    ordered, n = sorted(values), len(values)
    below = [math.comb(n, k) / 2**n for k in range(n)]
    missing = list(accumulate(below))
    outside = max((k for k in range(n // 2) if missing[k] <= ALPHA), default=0)
    return Interval(median(ordered), ordered[outside], ordered[n - 1 - outside], n)


@lru_cache(maxsize=4096)
def paired_difference_interval(only_first: int, only_second: int, n: int, alpha: float = ALPHA) -> Interval:
    """Return the difference of two paired shares, ``(only_first - only_second) / n``, with its interval.

    ``only_first`` and ``only_second`` count the pairs, out of ``n``, in which only that one has the
    property. The interval is Tango's score interval ("Equivalence test and confidence interval for the
    difference in proportions for the paired-sample design", Statistics in Medicine 17, 1998): it keeps
    its level for few pairs and where a count is 0, and needs no more than the discordant pairs.
    """
    if not 0 <= only_first + only_second <= n or n < 1 or min(only_first, only_second) < 0:
        raise ValueError(f"impossible counts: {only_first} and {only_second} of {n} pairs")
    difference = (only_first - only_second) / n

    def score(delta: float) -> float:
        return _tango_score(only_first, only_second, n, delta)

    point = normal_point(alpha)
    low = _root(lambda delta: score(delta) - point, -1.0, difference)
    high = _root(lambda delta: score(delta) + point, difference, 1.0)
    return Interval(difference, low, high, n)


@lru_cache(maxsize=4096)
def student_t(freedom: int, alpha: float = ALPHA) -> float:
    """Return the point that Student's t of so many degrees of freedom exceeds with probability ``alpha``.

    Exact: the finite series 26.7.3 and 26.7.4 of Abramowitz and Stegun, "Handbook of Mathematical
    Functions", inverted. Raises ValueError for no degree of freedom or an ``alpha`` outside (0, 1/2).
    """
    if freedom < 1 or not 0 < alpha < 0.5:
        raise ValueError(f"no point of Student's t for {freedom} degrees of freedom, alpha {alpha}")
    angle = _root(lambda theta: 1 - 2 * alpha - _within(theta, freedom), 0.0, math.pi / 2)
    return math.sqrt(freedom) * math.tan(angle)


def _within(theta: float, freedom: int) -> float:
    """Return the probability that the absolute value of Student's t is below sqrt(freedom) tan(theta)."""
    odd = freedom % 2
    index = np.arange(1, (freedom - odd) // 2)
    steps = (2 * index - 1 + odd) / (2 * index + odd) * math.cos(theta) ** 2
    series = 1 + float(np.cumprod(steps).sum())
    if not odd:
        return math.sin(theta) * series
    if freedom == 1:
        return 2 * theta / math.pi
    return 2 / math.pi * (theta + math.sin(theta) * math.cos(theta) * series)


def _skewness(data: NDArray[np.float64]) -> float:
    """Return the sample skewness G1 (adjusted for small samples); 0 where it is undefined."""
    n = data.size
    spread = float(data.std())
    if n < 3 or spread == 0:
        return 0.0
    # Divided before cubing: the cube of a tiny spread vanishes.
    skew = float((((data - data.mean()) / spread) ** 3).mean())
    return skew * math.sqrt(n * (n - 1)) / (n - 2)


def _unskewed(point: float, skew: float, n: int) -> float:
    """Return the studentised mean that Hall's transformation takes to ``point``."""
    if abs(skew) < 1e-6:
        return point
    return 3 / skew * (float(np.cbrt(1 + skew * (point - skew / (6 * n)))) - 1)


def _tango_score(first: int, second: int, n: int, delta: float) -> float:
    """Return how many standard errors the observed difference lies above ``delta``."""
    b = -first - second + (2 * n - first + second) * delta
    c = -second * delta * (1 - delta)
    share = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    variance = n * (2 * share + delta * (1 - delta))
    distance = first - second - n * delta
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    """Return where a falling function crosses zero between ``low`` and ``high``, to 1e-12."""
    while high - low > 1e-12:
        middle = (low + high) / 2
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
