"""Positions: how KLD goes along texts, where errors of a quantized cache may pile up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_kvcache.measures.paired import Interval, mean_interval

EDGES = (0, 16, 32, 64, 128, 256, 512, 1024)
"""Where bins begin unless said otherwise, in tokens of the output; the last one has no end."""
LEAST_FOR_A_SLOPE = 8
"""Tokens of a text from which on it says something about growth along it."""


@dataclass(frozen=True, slots=True)
class PositionBin:
    """KLD in the tokens ``[start, end)`` of the outputs; the interval is over prompts that reach there."""

    start: int
    end: int
    kld: Interval


@dataclass(frozen=True, slots=True)
class Slope:
    """What a text says about the slope of KLD on position: sums of products about the text's own means."""

    together: float
    spread: float


def slope_of(positions: NDArray[np.int64], klds: NDArray[np.float64]) -> Slope | None:
    """Return what a text says about growth along it; None if it is too short to say anything."""
    if positions.size < LEAST_FOR_A_SLOPE:
        return None
    x, y = positions - positions.mean(), klds - klds.mean()
    return Slope(float(x @ y), float(x @ x))


def growth(slopes: Iterable[Slope | None]) -> Interval:
    """Return the growth of KLD over 100 tokens, in nats, from the `slope_of` each text.

    It is the common slope within texts (least squares, one intercept for each text), its interval from the
    texts' influence on it; NaN if no text says anything.
    """
    given = [slope for slope in slopes if slope is not None]
    if not given:
        return over_prompts([])
    together = np.array([slope.together for slope in given])
    spread = np.array([slope.spread for slope in given])
    common = together.sum() / spread.sum()
    influence = (together - common * spread) / spread.mean()
    return over_prompts((100 * (common + influence)).tolist())


def means_along(
    positions: NDArray[np.int64], klds: NDArray[np.float64], edges: Sequence[int] = EDGES
) -> tuple[float | None, ...]:
    """Return a text's mean KLD in each bin; None for the bins in which it has no token."""
    ends = [*edges[1:], math.inf]
    parts = [klds[(positions >= start) & (positions < end)] for start, end in zip(edges, ends, strict=True)]
    return tuple(float(part.mean()) if part.size else None for part in parts)


def bins(
    means: Sequence[Sequence[float | None]], longest: int, edges: Sequence[int] = EDGES
) -> tuple[PositionBin, ...]:
    """Return the bins that any text reaches, from the `means_along` each; ``longest``: tokens of a text."""
    found = []
    ends = [*edges[1:], max(longest, edges[-1] + 1)]
    for at, (start, end) in enumerate(zip(edges, ends, strict=True)):
        there = [value for text in means if (value := text[at]) is not None]
        if there:
            found.append(PositionBin(start, min(end, longest), over_prompts(there)))
    return tuple(found)


def over_prompts(values: Sequence[float]) -> Interval:
    """Return the mean with its interval over prompts, whose ends are NaN for fewer than two."""
    if len(values) > 1:
        return mean_interval(values)
    return Interval(values[0] if values else math.nan, math.nan, math.nan, len(values))
