"""The aims set for the detectors before they were built, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from detection.evaluate import Evaluation, Result
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
    choose: Callable[[Evaluation, Rule], Sequence[Result]]
    """Picks the results that the aim is about; for the worst kind, the rule decides."""

    def measure(self, evaluation: Evaluation, rule: Rule) -> Interval | None:
        return share(self.choose(evaluation, rule), rule)

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


def healthy(evaluation: Evaluation, _: Rule) -> Sequence[Result]:
    return [result for result in evaluation.documents if result.is_healthy]


def worst_kind(evaluation: Evaluation, rule: Rule) -> Sequence[Result]:
    """Return the healthy results of the kind, among the large ones, with the most false alarms."""
    kinds: dict[str, list[Result]] = {}
    for result in healthy(evaluation, rule):
        kinds.setdefault(result.kind, []).append(result)
    large = [group for group in kinds.values() if len(group) >= LARGE_KIND]
    return max(large, key=lambda group: sum(map(rule, group)) / len(group), default=[])


def broken(evaluation: Evaluation, _: Rule) -> Sequence[Result]:
    return [result for result in evaluation.real if not result.is_healthy]


def _loop_noise(noise: float, bound: float) -> Aim:
    return Aim(
        f"loops, {noise:.0%} noise",
        bound,
        False,
        lambda evaluation, _: loops(evaluation.documents, noise),
    )


def _damage(kind: str, bound: float, noise: float | None = None) -> Aim:
    def choose(evaluation: Evaluation, _: Rule) -> list[Result]:
        return [r for r in _damaged(evaluation.documents, kind) if noise is None or _noise(r) == noise]

    return Aim(kind if noise is None else f"{kind}, {noise:.0%} noise", bound, False, choose)


def _damaged(results: Sequence[Result], kind: str) -> list[Result]:
    return [result for result in results if result.damage is not None and result.damage.kind == kind]


def _noise(result: Result) -> float | None:
    return result.damage.noise if result.damage else None


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
    Aim(
        "word-salad, with the baseline's log-probabilities",
        0.90,
        False,
        lambda evaluation, _: _damaged(evaluation.scored, "word-salad"),
    ),
    Aim("broken outputs of reference models", 0.95, False, broken),
)
