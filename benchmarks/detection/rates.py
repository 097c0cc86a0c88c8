"""Rates: of so many documents, how many raised an alarm, by which rule, with 95 % intervals.

Intervals are Wilson's (:func:`~pytest_kvcache.measures.paired.share_interval`), zero counts included:
none in 4,000 is at most .096 %, where the exact binomial bound is .092 %.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from detection.evaluate import Result
from detection.peers import PEERS
from pytest_kvcache.measures.paired import Interval, share_interval

Rule = Callable[[Result], bool]

RIGHT_KINDS: dict[str, frozenset[str]] = {
    "loop": frozenset({"loop", "near-loop", "stuck", "blanks"}),
    "numbered-loop": frozenset({"loop", "near-loop"}),
    "paraphrase-loop": frozenset({"loop", "near-loop"}),
    "stuck-token": frozenset({"loop", "stuck", "blanks", "special-tokens"}),
    "stuck-char": frozenset({"loop", "stuck", "blanks"}),
    "blanks": frozenset({"loop", "stuck", "blanks"}),
    "special-tokens": frozenset({"special-tokens", "stuck"}),
    "soup": frozenset({"soup", "mixed-scripts", "corruption", "improbable"}),
    "small-soup": frozenset({"soup", "small-soup", "improbable"}),
    "corruption": frozenset({"soup", "corruption", "mixed-scripts", "improbable"}),
    "mixed-scripts": frozenset({"soup", "corruption", "mixed-scripts", "script-flip"}),
    "mojibake": frozenset({"mojibake"}),
    "replacement": frozenset({"replacement", "mojibake"}),
    "script-flip": frozenset({"script-flip", "language-flip", "mixed-scripts"}),
    "language-flip": frozenset({"script-flip", "language-flip"}),
    "word-salad": frozenset({"improbable", "soup"}),
    "nonsense": frozenset({"improbable", "soup", "small-soup", "corruption"}),
}
"""Signals that name a damage rightly. A kind that is not listed has a signal of its own name."""

PERIOD_BANDS: dict[str, range] = {
    "1": range(1, 2),
    "2–4": range(2, 5),
    "5–16": range(5, 17),
    "17–64": range(17, 65),
    "65+": range(65, 1 << 20),
}
"""Tokens of a loop's unit."""


def fails(result: Result) -> bool:
    return result.fails


def fails_or_warns(result: Result) -> bool:
    return bool(result.signals)


def names_it(result: Result) -> bool:
    """Whether a signal is of a kind that says what the damage is."""
    right = RIGHT_KINDS.get(result.kind, frozenset({result.kind}))
    return any(signal.kind in right for signal in result.signals)


def alarms(peer: str) -> Rule:
    return lambda result: peer in result.alarms


OURS: dict[str, Rule] = {"fail": fails, "fail or warn": fails_or_warns}
RULES: dict[str, Rule] = {**OURS, **{name: alarms(name) for name in PEERS}}
"""Every rule by the name that tables show, ours first."""


def share(results: Sequence[Result], rule: Rule) -> Interval | None:
    """Return the share of results that a rule is true of, or None for no results."""
    return share_interval(sum(map(rule, results)), len(results)) if results else None


def by_key(
    results: Iterable[Result], key: Callable[[Result], tuple[object, ...]]
) -> list[tuple[tuple[object, ...], list[Result]]]:
    """Group results by a key, in the order of the keys' texts."""

    def sortable(result: Result) -> tuple[str, ...]:
        return tuple(map(str, key(result)))

    groups = (list(group) for _, group in groupby(sorted(results, key=sortable), key=sortable))
    return [(key(group[0]), group) for group in groups]


def period_band(period: int | None) -> str | None:
    return next((name for name, band in PERIOD_BANDS.items() if period in band), None)


def loops(results: Iterable[Result], noise: float | None = None, band: str | None = None) -> list[Result]:
    """Return the results on loops, of one noise and one band of periods where these are given."""
    return [
        result
        for result in results
        if result.kind == "loop"
        and result.damage is not None
        and (noise is None or result.damage.noise == noise)
        and (band is None or period_band(result.damage.period) == band)
    ]


def damaged_tokens(result: Result) -> float:
    """Return about how many tokens the damage has, by its share of the characters."""
    if result.damage is None or not result.characters:
        return 0.0
    return (result.damage.end - result.damage.start) / result.characters * result.tokens
