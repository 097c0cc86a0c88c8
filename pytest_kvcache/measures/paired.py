"""Paired statistics: two-sided 95 % intervals for what is measured once per prompt.

All of them are deterministic: no resampling, so that the same run gives the same verdict. A gate uses
one end of an interval at a time, so its error rate is 2.5 % per decision. No correction for several
decisions is made here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z = 1.959963984540054
"""The 97.5 % point of the normal distribution."""
_T_OF_FEW = (12.7062047362, 4.3026527297, 3.1824463053, 2.7764451052)
"""The 97.5 % points of Student's t for 1 to 4 degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate from ``n`` prompts with its two-sided 95 % interval."""

    value: float
    low: float
    high: float
    n: int


def mean_interval(values: Sequence[float]) -> Interval:
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
    point = student_t(data.size - 1) / math.sqrt(data.size)
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


def paired_difference_interval(only_first: int, only_second: int, n: int) -> Interval:
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

    low = _root(lambda delta: score(delta) - Z, -1.0, difference)
    high = _root(lambda delta: score(delta) + Z, difference, 1.0)
    return Interval(difference, low, high, n)


def student_t(freedom: int) -> float:
    """Return the 97.5 % point of Student's t; from 5 degrees of freedom on within 0.0003.

    The expansion is 26.7.5 of Abramowitz and Stegun, "Handbook of Mathematical Functions".
    """
    if freedom <= len(_T_OF_FEW):
        return _T_OF_FEW[freedom - 1]
    z = Z
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / float(freedom) ** power for power, term in enumerate(terms, start=1))


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
