"""Alignment: where a sequence repeats itself inexactly, and how its copies differ from each other.

Works as sequence aligners of biology do. Equal 3-grams are *seeds*; a seed's distance to its previous
occurrence is its *lag*; a repetition with period p puts many seeds at lags of about p, edits only shift
them by a little (the diagonals of FASTA: Lipman and Pearson, "Rapid and sensitive protein similarity
searches", Science 227, 1985). For the few lags with the most seeds, each element is *explained* if it
lies in a 2-gram that occurred about one to three periods before, and the stretch with the best score (a
point for what is explained, less two for what is not) is the repetition. Its elements are then laid
under each other, copy by copy, in *columns*.

Columns tell a noisy loop from text that repeats by design, such as records, tables and lists: in a loop
any column may be hit by an error; in a template the same columns, its slots, differ in every copy.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import exp, lgamma, log
from typing import TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

WINDOW = 1024
"""Elements that are looked at together, so that the work is linear; windows overlap by half."""
LONGEST_PERIOD = 2 / 5
"""Of a window: a repetition shows when two copies and a half of it fit."""
LEAST_SEEDS = 12
SEEDS_PER_PERIOD = 1.0
"""Seeds at a lag, in units of it, for it to be tried: three copies with one in ten changed have one."""
LEAST_LENGTH = 36
LEAST_COPIES = 3.0
"""What there must be of a repetition to tell anything of its copies."""
LEAST_SCORE = 20
PERIODS_TRIED = 2
LEAST_IN_COLUMN = 3
PERIODS_BACK = 3
"""Copies in which an element is looked for: an error in the last one does not hide it."""

_SLOT_RATES = (0.45, 0.55, 0.65, 0.75, 0.85, 0.95)
"""Of changes in a column that is a slot of a template: anything beyond two fifths."""
_FIXED_RATE = 0.02
_SLOT_SHARE = 0.15

Elements = NDArray[np.uint64]
_Ints = NDArray[np.int64]
_Period = TypeVar("_Period", int, _Ints)


class _Compared(TypedDict):
    """What comparing the copies of a repetition gives; the fields of `Alignment` by their names."""

    unit: tuple[int, ...]
    changed: float
    covered: float
    slots: int
    short_slots: int
    evenness: float


@dataclass(frozen=True, slots=True)
class Alignment:
    """A repetition: the stretch ``[start, end)`` of a sequence, laid in columns."""

    start: int
    end: int
    period: int
    unit: tuple[int, ...]
    """The commonest element of each column that most of its copies agree on, in order."""
    types: int
    """Different elements in the stretch."""
    changed: float
    """Share of elements that are not their column's commonest."""
    covered: float
    """Columns with at least three elements, of all columns."""
    slots: int
    """Columns of at least four elements in which nearly every copy differs."""
    short_slots: int
    """Columns of three elements that all differ: slots, if not chance."""
    steady: float
    """Share of explained elements whose counterpart is at the commonest distance."""
    evenness: float
    """Log-likelihood ratio, in nats, of errors that hit every column at one rate against a template of
    fixed columns and slots."""

    @property
    def length(self) -> int:
        return self.end - self.start

    @property
    def copies(self) -> float:
        return self.length / self.period


@dataclass(frozen=True, slots=True)
class Search:
    """What was found in a sequence."""

    alignments: list[Alignment]
    suspicious: bool
    """Whether any distance between equal 3-grams is common enough to be a period."""


def find_alignments(elements: Elements) -> Search:
    """Return the inexact repetitions of a sequence, the strongest few of each window.

    ``elements``: uint64[n], anything that equals where the sequence's elements do. Takes O(n log n).
    """
    size = len(elements)
    alignments: list[Alignment] = []
    suspicious = False
    for start in range(0, max(1, size - WINDOW // 2), WINDOW // 2):
        window = elements[start : start + WINDOW]
        pair_lags = None
        for period in _periods(window):
            suspicious = True
            if pair_lags is None:
                pair_lags = _lags(_hashed_grams(window)[0])
            found = _align(window, pair_lags, period, start)
            if found:
                alignments.append(found)
    return Search(alignments, suspicious)


def _periods(elements: Elements) -> Iterator[int]:
    """Yield the few distances that most 3-grams repeat at, and enough of them, the commonest first."""
    size = len(elements)
    if size < LEAST_LENGTH:
        return
    _, triples = _hashed_grams(elements)
    lags = _lags(triples)
    lags = lags[(lags > 0) & (lags <= int(size * LONGEST_PERIOD))]
    if len(lags) < LEAST_SEEDS:
        return
    seeds = np.bincount(lags)
    for _ in range(PERIODS_TRIED):
        period = _commonest_period(seeds)
        if period == 0:
            return
        yield period
        around = _tolerance(period)
        seeds[max(0, period - around) : period + around + 1] = 0


def _hashed_grams(elements: Elements) -> tuple[Elements, Elements]:
    """Return the 2-grams and 3-grams as numbers that are equal where they are, up to chance (2^-64)."""
    mixed = elements * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    pairs = mixed[:-1] * np.uint64(0xC2B2AE3D27D4EB4F) + mixed[1:]
    return pairs, pairs[:-1] * np.uint64(0x165667B19E3779F9) + mixed[2:]


def _lags(values: Elements) -> _Ints:
    """Return for each place the distance to the previous equal value, 0 where there is none."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    again = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
    lags = np.zeros(len(values), np.int64)
    lags[order[again]] = order[again] - order[again - 1]
    return lags


def _tolerance(period: _Period) -> _Period:
    """Return by how much edits may shift one copy, of this period or each, against the next: an eighth."""
    return (period + 4) // 8 + (period > 5)


def _commonest_period(seeds: _Ints) -> int:
    """Return the lag with the most seeds at and around it, or 0 if no lag has enough."""
    lags = np.flatnonzero(seeds)
    if not len(lags):
        return 0
    until = np.concatenate([[0], np.cumsum(seeds)])
    around = _tolerance(lags)
    count = until[np.minimum(lags + around + 1, len(seeds))] - until[np.maximum(lags - around, 0)]
    enough = (count >= LEAST_SEEDS) & (count >= SEEDS_PER_PERIOD * lags)
    if not enough.any():
        return 0
    return int(lags[np.argmax(np.where(enough, count + seeds[lags] / 2, 0))])


def _align(elements: Elements, pair_lags: _Ints, period: int, offset: int) -> Alignment | None:
    """Return the best-scoring stretch that repeats with about this period, if it is long enough."""
    links = _links(elements, pair_lags, period)
    score = np.concatenate([[0], np.cumsum(np.where(links > 0, 1, -2))])
    gain = score - np.minimum.accumulate(score)
    end = int(np.argmax(gain))
    if gain[end] < LEAST_SCORE:
        return None
    # What repeats begins one copy before the first element that is explained.
    start = max(0, int(np.argmin(score[: end + 1])) - period)
    if end - start < max(LEAST_LENGTH, LEAST_COPIES * period):
        return None
    stretch: list[int] = elements[start:end].tolist()
    columns = _columns(stretch, links[start:end].tolist(), period)
    distances = np.bincount(links[start:end])[1:]
    return Alignment(
        start=start + offset,
        end=end + offset,
        period=period,
        types=len(set(stretch)),
        steady=float(distances.max() / distances.sum()),
        **_compared(columns, period),
    )


def _links(elements: Elements, pair_lags: _Ints, period: int) -> _Ints:
    """Return for each element how far back its counterpart in an earlier copy is; 0 if unexplained.

    Exactly one period back counts first: within a unit that repeats some words, the nearest equal pair
    is not the counterpart.
    """
    back = np.clip(np.rint(pair_lags / period), 1, PERIODS_BACK)
    shift = np.abs(pair_lags - back * period)
    near = (pair_lags > 0) & (shift <= _tolerance(period) * np.sqrt(back))
    equal = np.zeros(len(elements), np.bool_)
    equal[period:] = elements[period:] == elements[:-period]
    exact = equal[:-1] & equal[1:]
    links = np.zeros(len(elements), np.int64)
    for which, lags in ((near, pair_lags[near]), (exact, period)):
        links[1:][which] = lags
        links[:-1][which] = lags
    return links


def _columns(stretch: list[int], links: list[int], period: int) -> list[list[int]]:
    """Lay the elements in columns: each in that of its counterpart, or else in the one after the last.

    The first copy makes the columns, as many as it has elements: edits may have made it longer or shorter.
    A counterpart that has none itself, between two edits, may be in the wrong column, and hands on none.
    """
    places = [0] * len(stretch)
    columns: defaultdict[int, list[int]] = defaultdict(list)
    first_copy = period + _tolerance(period)
    place = last = -1
    for index, (element, link) in enumerate(zip(stretch, links, strict=True)):
        back = index - link
        if 0 < link <= index and (back < first_copy or links[back] > 0):
            place = places[back]
        else:
            place = place + 1 if place < last or index < first_copy else 0
        last = max(last, place)
        places[index] = place
        columns[place].append(element)
    return [columns[place] for place in sorted(columns)]


def _compared(columns: list[list[int]], period: int) -> _Compared:
    unit: list[int] = []
    changes: list[tuple[int, int]] = []
    slots = short_slots = 0
    for column in columns:
        size = len(column)
        if size < LEAST_IN_COLUMN:
            continue
        counts = Counter(column)
        element, most = counts.most_common(1)[0]
        changes.append((size, size - most))
        slots += size > LEAST_IN_COLUMN and len(counts) >= (size if size < 8 else 0.8 * size)
        short_slots += size == len(counts) == LEAST_IN_COLUMN
        if 2 * most > size:
            unit.append(element)
    changed = sum(count for _, count in changes) / max(1, sum(size for size, _ in changes))
    return {
        "unit": tuple(unit),
        "changed": changed,
        "covered": min(1.0, len(changes) / period),
        "slots": slots,
        "short_slots": short_slots,
        "evenness": _evenness(changes, changed),
    }


def _evenness(changes: list[tuple[int, int]], rate: float) -> float:
    rate = min(max(rate, 0.005), 0.6)
    return sum(_log_binomial(size, count, rate) - _log_template(size, count) for size, count in changes)


@lru_cache(maxsize=1 << 14)
def _log_template(size: int, count: int) -> float:
    """Return the log-probability of so many changes in a column of a template."""
    slot = sum(exp(_log_binomial(size, count, rate)) for rate in _SLOT_RATES) / len(_SLOT_RATES)
    fixed = exp(_log_binomial(size, count, _FIXED_RATE))
    return log(max((1 - _SLOT_SHARE) * fixed + _SLOT_SHARE * slot, 1e-12))


def _log_binomial(size: int, count: int, rate: float) -> float:
    ways = lgamma(size + 1) - lgamma(count + 1) - lgamma(size - count + 1)
    return ways + count * log(rate) + (size - count) * log(1 - rate)
