"""The aims set for the detectors before they were built, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from detection.evaluate import Result
from detection.rates import Rule, loops, share
from pytest_kvcache.measures.paired import Interval

LARGE_KIND = 1500
"""Documents from which on a kind of healthy text has an aim of its own."""


@dataclass(frozen=True, slots=True)
class Aim:
    """A bound on the share of some documents that raise an alarm."""

    text: str
    bound: float
    is_upper: bool
    choose: Callable[[Sequence[Result], Rule], Sequence[Result]]
    """Picks, of all results, those that the aim is about; for the worst kind, the rule decides."""

    def measure(self, results: Sequence[Result], rule: Rule) -> Interval | None:
        return share(self.choose(results, rule), rule)

    def is_met(self, measured: Interval | None) -> str:
        """``yes`` if the whole interval meets the bound, ``likely`` if the estimate does, else ``no``."""
        if measured is None:
            return "not measured"
        near, far = (measured.value, measured.high) if self.is_upper else (measured.value, measured.low)
        if self._holds(far):
            return "yes"
        return "likely" if self._holds(near) else "no"

    def _holds(self, value: float) -> bool:
        return value <= self.bound if self.is_upper else value >= self.bound


def healthy(results: Sequence[Result], rule: Rule) -> Sequence[Result]:
    del rule
    return [result for result in results if result.is_healthy]


def worst_kind(results: Sequence[Result], rule: Rule) -> Sequence[Result]:
    """Return the healthy results of the kind, among the large ones, with the most false alarms."""
    kinds: dict[str, list[Result]] = {}
    for result in results:
        if result.is_healthy:
            kinds.setdefault(result.kind, []).append(result)
    large = [group for group in kinds.values() if len(group) >= LARGE_KIND]
    return max(large, key=lambda group: sum(map(rule, group)) / len(group), default=[])


def _loop_noise(noise: float, bound: float) -> Aim:
    return Aim(f"loops, {noise:.0%} noise", bound, False, lambda results, _: loops(results, noise))


def _damage(kind: str, bound: float, noise: float | None = None) -> Aim:
    def choose(results: Sequence[Result], _: Rule) -> list[Result]:
        return [
            result
            for result in results
            if result.damage is not None
            and result.damage.kind == kind
            and (noise is None or result.damage.noise == noise)
        ]

    return Aim(kind if noise is None else f"{kind}, {noise:.0%} noise", bound, False, choose)


AIMS = (
    Aim("false alarms, all healthy text", 0.0005, True, healthy),
    Aim(f"false alarms, worst kind of {LARGE_KIND:,} documents or more", 0.002, True, worst_kind),
    _loop_noise(0.0, 0.995),
    _loop_noise(0.02, 0.97),
    _loop_noise(0.05, 0.90),
    _loop_noise(0.10, 0.75),
    _damage("numbered-loop", 0.95),
    _damage("soup", 0.99),
    _damage("small-soup", 0.99),
    _damage("mojibake", 0.99),
    _damage("corruption", 0.80, noise=0.10),
    _damage("language-flip", 0.90),
    _damage("word-salad", 0.90),
)
