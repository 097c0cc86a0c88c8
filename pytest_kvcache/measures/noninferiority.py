"""Non-inferiority: which harms are proven to be within their margins, and which to be beyond.

Two rules keep the error rates of a verdict that rests on several endpoints:

- *All* must lie within for a pass. That is an intersection-union test: each at the level alpha gives the
  whole the level alpha, without a correction (R. L. Berger, "Multiparameter Hypothesis Testing and
  Acceptance Sampling", Technometrics 24, 1982).
- *Any* one beyond is a failure, so chance gets several tries. Holm's procedure keeps the probability of
  any false one at alpha (S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure",
  Scandinavian Journal of Statistics 6, 1979).

What else was run, other models or dtypes, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_kvcache.measures.paired import ALPHA, Interval, mean_interval, paired_difference_interval
from pytest_kvcache.measures.power import detectable_difference, detectable_mean, further_prompts


class Sample(Protocol):
    """One figure of harm for each prompt."""

    def interval(self, alpha: float = ALPHA) -> Interval:
        """Return the mean harm, with an interval whose ends miss with probability ``alpha`` each."""

    def detectable(self, margin: float, alpha: float) -> float | None:
        """Return the harm that is found beyond the margin with probability 1 - beta; None if none is."""


@dataclass(frozen=True, slots=True, eq=False)
class Means:
    """A measured figure for each prompt: float64[n], finite, n at least 2."""

    values: NDArray[np.float64]

    def interval(self, alpha: float = ALPHA) -> Interval:
        return mean_interval(self.values, alpha)

    def detectable(self, margin: float, alpha: float) -> float:
        return detectable_mean(float(self.values.std(ddof=1)), self.values.size, margin, alpha)


@dataclass(frozen=True, slots=True, eq=False)
class Differences:
    """Which of two outputs has a fault, for each prompt: int8[n], n at least 1.

    1 stands for the candidate's alone, -1 for the baseline's alone, 0 for both or neither.
    """

    values: NDArray[np.int8]

    @classmethod
    def of(cls, faults: Iterable[tuple[bool, bool]]) -> Differences:
        """Build it from whether the candidate's and the baseline's output have the fault, for each prompt."""
        return cls(np.array([ours - theirs for ours, theirs in faults], dtype=np.int8))

    def interval(self, alpha: float = ALPHA) -> Interval:
        ours, theirs = (int(np.count_nonzero(self.values == side)) for side in (1, -1))
        return paired_difference_interval(ours, theirs, self.values.size, alpha)

    def detectable(self, margin: float, alpha: float) -> float | None:
        return detectable_difference(self.values.size, margin, alpha)


@dataclass(frozen=True, slots=True)
class Judgement:
    """One endpoint held against its margin."""

    interval: Interval
    """95 %, as for every figure that people read."""
    margin: float
    alpha: float
    """The level at which a failure of this endpoint is tested at least: alpha over their number."""
    beyond: bool
    """Whether it is proven to be beyond the margin, at the level corrected for all endpoints."""
    further: int | None
    """More prompts like these that would decide what is open; None if no number that anyone runs would."""
    detectable: float | None
    """The harm that would be proven to be beyond the margin with probability 1 - beta; None if none would."""

    @property
    def within(self) -> bool:
        return self.interval.high <= self.margin

    @property
    def suspect(self) -> bool:
        """Whether it would be beyond the margin if it were the only endpoint."""
        return self.interval.low > self.margin


def judge(samples: Mapping[str, Sample], margins: Mapping[str, float]) -> dict[str, Judgement]:
    """Hold each sample against the margin of its name."""
    beyond = _proven_beyond(samples, margins)
    alpha = ALPHA / max(1, len(samples))
    return {
        name: _judgement(sample, margins[name], alpha, beyond=name in beyond)
        for name, sample in samples.items()
    }


def _judgement(sample: Sample, margin: float, alpha: float, *, beyond: bool) -> Judgement:
    interval = sample.interval()
    level = ALPHA if interval.value < margin else alpha
    further = further_prompts(sample.interval(level), margin, level)
    return Judgement(interval, margin, alpha, beyond, further, sample.detectable(margin, alpha))


def _proven_beyond(samples: Mapping[str, Sample], margins: Mapping[str, float]) -> set[str]:
    """Return the endpoints that Holm's procedure rejects: each round asks less of those that are left."""
    proven: set[str] = set()
    while left := samples.keys() - proven:
        level = ALPHA / len(left)
        found = {name for name in left if samples[name].interval(level).low > margins[name]}
        if not found:
            break
        proven |= found
    return proven
