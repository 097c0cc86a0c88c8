"""Power: what a sample of this size and spread can see, and how much larger it would have to be.

For planning, and to refuse a pass where nothing could have failed. A harm of the
*minimum detectable effect* is found beyond the margin with probability 1 - beta (H. S. Bloom, "Minimum
Detectable Effects: A Simple Way to Report the Statistical Power of Experimental Designs", Evaluation Review
19, 1995). For means it is an approximation, for shares the decision's own rule is inverted.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Collection
from functools import lru_cache

import numpy as np

from pytest_kvcache.measures.paired import (
    ALPHA,
    Interval,
    normal_point,
    paired_difference_interval,
    student_t,
)

BETA = 0.2
"""How often the harm that is called detectable is missed: the usual power of 80 %."""
MOST_PROMPTS = 10_000
"""Nobody runs more: beyond that a figure counts as lying on the margin."""
STEPS = 10_000
"""Detectable shares are rounded up to a multiple of one over so many."""


def detectable_mean(spread: float, n: int, margin: float, alpha: float) -> float:
    """Return the mean harm that is found beyond ``margin`` with probability 1 - :data:`BETA`.

    ``spread`` is the standard deviation over ``n`` prompts, ``alpha`` the level of the one-sided test.
    """
    return margin + (student_t(n - 1, alpha) + student_t(n - 1, BETA)) * spread / math.sqrt(n)


@lru_cache(maxsize=4096)
def detectable_difference(n: int, margin: float, alpha: float) -> float | None:
    """Return the share of ``n`` pairs that must be harmed to be found as often; None if not even all are.

    That is with no pair in which the baseline alone has the fault: each such pair asks for more. Exact: the
    probability of as many harmed pairs as :func:`fails_from` says is binomial.
    """
    count = fails_from(n, margin, alpha)
    if count is None:
        return None
    return bisect_left(range(STEPS), 1 - BETA, key=lambda step: _at_least(count, n, step / STEPS)) / STEPS


def fails_from(n: int, margin: float, alpha: float) -> int | None:
    """Return the least number of ``n`` pairs, harmed all, that is beyond ``margin``; None if no number is."""
    count = bisect_right(range(n + 1), margin, key=lambda k: paired_difference_interval(k, 0, n, alpha).low)
    return count if count <= n else None


def can_show_excess(theirs: Collection[bool], margin: float, alpha: float = ALPHA) -> bool:
    """Whether a fault of every output of the candidate would be proven to be beyond the margin.

    ``theirs`` says of each of the baseline's whether it has the fault. Where too few are free of it, nothing
    that the candidate does could fail, and a pass would say nothing.
    """
    needed = fails_from(len(theirs), margin, alpha)
    return needed is not None and len(theirs) - sum(theirs) >= needed


def further_prompts(interval: Interval, margin: float, alpha: float = ALPHA) -> int | None:
    """Return how many more prompts like these would decide with probability 1 - :data:`BETA`.

    ``interval`` is one whose ends miss with probability ``alpha`` each. None if the value lies so close to
    the margin that no number that anyone runs would decide.
    """
    end = interval.high if interval.value < margin else interval.low
    distance = abs(interval.value - margin)
    wanted = abs(end - interval.value) * (1 + normal_point(BETA) / normal_point(alpha))
    if distance * math.sqrt(MOST_PROMPTS) <= wanted * math.sqrt(interval.n):
        return None
    return max(1, math.ceil(interval.n * (wanted / distance) ** 2) - interval.n)


def _at_least(count: int, n: int, share: float) -> float:
    """Return the probability that at least ``count`` of ``n`` have what each has with probability ``share``.

    ``count`` is at least 1. In logarithms, for the powers of a share vanish where n is large.
    """
    if share == 0:
        return 0.0
    index = np.arange(1, count)
    steps = np.log((n + 1 - index) / index * share / (1 - share))
    below = n * math.log1p(-share) + np.concatenate([[0.0], np.cumsum(steps)])
    return 1 - float(np.exp(below).sum())
