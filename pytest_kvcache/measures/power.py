"""Power: what a sample of this size and spread can see, and how much larger it would have to be.

Approximations for planning; no verdict depends on them. A harm of the margin plus the *minimum
detectable effect* is found beyond the margin with probability 1 - beta (H. S. Bloom, "Minimum Detectable
Effects: A Simple Way to Report the Statistical Power of Experimental Designs", Evaluation Review 19, 1995).
"""

from __future__ import annotations

import math

from pytest_kvcache.measures.paired import ALPHA, Interval, normal_point, student_t

BETA = 0.2
"""How often the harm that is called detectable is missed: the usual power of 80 %."""
MOST_PROMPTS = 10_000
"""Nobody runs more: beyond that a figure counts as lying on the margin."""


def detectable_mean(spread: float, n: int, margin: float, alpha: float) -> float:
    """Return the mean harm that is found beyond ``margin`` with probability 1 - :data:`BETA`.

    ``spread`` is the standard deviation over ``n`` prompts, ``alpha`` the level of the one-sided test.
    """
    return margin + (student_t(n - 1, alpha) + student_t(n - 1, BETA)) * spread / math.sqrt(n)


def detectable_difference(discordant: float, n: int, margin: float, alpha: float) -> float:
    """Return the same for a difference d of paired shares, of which ``discordant`` pairs differ.

    The variance of d is (max(discordant, d) - d squared) / n (J. M. Lachin, "Power and Sample Size
    Evaluation for the McNemar Test", Statistics in Medicine 11, 1992).
    """
    squared = (normal_point(alpha) + normal_point(BETA)) ** 2

    def solve(linear: float, constant: float) -> float:
        leading = n + squared
        return (-linear + math.sqrt(max(linear**2 - 4 * leading * constant, 0))) / (2 * leading)

    found = solve(-2 * n * margin, n * margin**2 - squared * discordant)
    return found if found < discordant else solve(-2 * n * margin - squared, n * margin**2)


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
