"""Intervals of ratios of sums, by resampling prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
RESAMPLES = 4000


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def bootstrap(columns: Floats, statistic: Callable[[Floats], Floats]) -> Estimate:
    """Return a statistic of column sums with its interval over resampled prompts (rows)."""
    generator = np.random.default_rng(0)
    n = len(columns)
    weights = generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
    low, high = np.percentile(statistic(weights @ columns), [2.5, 97.5])
    return Estimate(float(statistic(columns.sum(axis=0))), float(low), float(high))
