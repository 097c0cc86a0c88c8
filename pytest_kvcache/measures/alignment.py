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

from collections.abc import Iterator
from dataclasses import dataclass, replace
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
        if len(window) < LEAST_LENGTH:
            continue
        # Numbered below WINDOW, so that a gram is a number as well.
        kinds, numbers = np.unique(window, return_inverse=True)
        pairs = WINDOW * numbers[:-1] + numbers[1:]
        pair_lags = None
        for period in _periods(WINDOW * pairs[:-1] + numbers[2:]):
            suspicious = True
            if pair_lags is None:
                pair_lags = _lags(pairs)
            found = _align(numbers, pair_lags, period)
            if found:
                unit = tuple(kinds[list(found.unit)].tolist())
                found = replace(found, start=found.start + start, end=found.end + start, unit=unit)
                alignments.append(found)
    return Search(alignments, suspicious)


def _periods(triples: _Ints) -> Iterator[int]:
    """Yield the few distances that most 3-grams repeat at, and enough of them, the commonest first."""
    _, lags = _repeated(triples)
    lags = lags[lags <= int((len(triples) + 2) * LONGEST_PERIOD)]
    if len(lags) < LEAST_SEEDS:
        return
    seeds = np.bincount(lags, minlength=int(_LAST[-1]) + 1)
    for _ in range(PERIODS_TRIED):
        period = _commonest_period(seeds)
        if period == 0:
            return
        yield period
        seeds[_BEFORE[period] + 1 : _LAST[period] + 1] = 0


def _repeated(values: _Ints) -> tuple[_Ints, _Ints]:
    """Return the places whose value occurred before, in any order, and how far before at last.

    ``values``: below WINDOW^4, no more than WINDOW of them; sorted with their places in one number.
    """
    ordered = np.sort(WINDOW * values + np.arange(len(values)))
    values = ordered // WINDOW
    again = np.flatnonzero(values[1:] == values[:-1])
    latter = ordered[again + 1]
    return latter % WINDOW, latter - ordered[again]


def _lags(values: _Ints) -> _Ints:
    """Return for each place the distance to the previous equal value, 0 where there is none."""
    lags = np.zeros(len(values), np.int64)
    places, distances = _repeated(values)
    lags[places] = distances
    return lags


def _tolerance(period: _Period) -> _Period:
    """Return by how much edits may shift one copy, of this period or each, against the next: an eighth."""
    return (period + 4) // 8 + (period > 5)


_PERIODS = np.arange(int(WINDOW * LONGEST_PERIOD) + 1)
_BEFORE, _LAST = np.maximum(_PERIODS - _tolerance(_PERIODS) - 1, 0), _PERIODS + _tolerance(_PERIODS)
_ENOUGH = np.maximum(SEEDS_PER_PERIOD * _PERIODS, LEAST_SEEDS)
"""By period: the lags that belong to it lie after the first and up to the last; the seeds that they need."""


def _commonest_period(seeds: _Ints) -> int:
    """Return the lag with the most seeds at and around it, or 0 if no lag has enough; ``seeds`` by lag."""
    until = np.cumsum(seeds)
    count = until[_LAST] - until[_BEFORE]
    at = seeds[: len(count)]
    return int(np.argmax((2 * count + at) * ((at > 0) & (count >= _ENOUGH))))


def _align(elements: _Ints, pair_lags: _Ints, period: int) -> Alignment | None:
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
    stretch, links = elements[start:end], links[start:end]
    distances = np.bincount(links)[1:]
    return Alignment(
        start=start,
        end=end,
        period=period,
        types=int(np.count_nonzero(np.bincount(stretch))),
        steady=float(distances.max() / distances.sum()),
        **_compared(stretch, _columns(links.tolist(), period), period),
    )


def _links(elements: _Ints, pair_lags: _Ints, period: int) -> _Ints:
    """Return for each element how far back its counterpart in an earlier copy is; 0 if unexplained.

    Exactly one period back counts first: within a unit that repeats some words, the nearest equal pair
    is not the counterpart.
    """
    near = _near_lags(period)[pair_lags]
    equal = np.zeros(len(elements), np.bool_)
    np.equal(elements[period:], elements[:-period], out=equal[period:])
    exact = equal[:-1] & equal[1:]
    links = np.zeros(len(elements), np.int64)
    for which, lags in ((near, pair_lags), (exact, np.int64(period))):
        np.copyto(links[1:], lags, where=which)
        np.copyto(links[:-1], lags, where=which)
    return links


@lru_cache(maxsize=len(_PERIODS))
def _near_lags(period: int) -> NDArray[np.bool_]:
    """Return bool[WINDOW]: which lags of a pair are those of a counterpart some copies before."""
    lags = np.arange(WINDOW)
    back = np.clip(np.rint(lags / period), 1, PERIODS_BACK)
    near: NDArray[np.bool_] = np.abs(lags - back * period) <= _tolerance(period) * np.sqrt(back)
    return near & (lags > 0)


def _columns(links: list[int], period: int) -> list[int]:
    """Return for each element its column: that of its counterpart, or else the one after the last.

    The first copy makes the columns, as many as it has elements: edits may have made it longer or shorter.
    A counterpart that has none itself, between two edits, may be in the wrong column, and hands on none.
    """
    columns: list[int] = []
    first_copy = period + _tolerance(period)
    column = last = -1
    for index, link in enumerate(links):
        back = index - link
        if 0 < link <= index and (back < first_copy or links[back] > 0):
            column = columns[back]
        else:
            column = column + 1 if column < last or index < first_copy else 0
        if column > last:
            last = column
        columns.append(column)
    return columns


def _compared(stretch: _Ints, columns: list[int], period: int) -> _Compared:
    """Compare what each column holds, all of them at once: sorted, equal elements stand together."""
    ordered = np.sort(WINDOW * np.array(columns) + stretch)
    starts, counts = _groups(ordered)
    column, element = np.divmod(ordered[starts], WINDOW)
    firsts, kinds = _groups(column)
    sizes, most = np.add.reduceat(counts, firsts), np.maximum.reduceat(counts, firsts)
    long_enough = sizes >= LEAST_IN_COLUMN
    agreed = np.repeat(long_enough, kinds) & (2 * counts > np.repeat(sizes, kinds))
    sizes, most, kinds = sizes[long_enough], most[long_enough], kinds[long_enough]
    is_slot = (sizes > LEAST_IN_COLUMN) & (kinds >= np.where(sizes < 8, sizes, 0.8 * sizes))
    changes = list(zip(sizes.tolist(), (sizes - most).tolist(), strict=True))
    changed = sum(count for _, count in changes) / max(1, sum(size for size, _ in changes))
    return {
        "unit": tuple(element[agreed].tolist()),
        "changed": changed,
        "covered": min(1.0, len(changes) / period),
        "slots": int(np.count_nonzero(is_slot)),
        "short_slots": int(np.count_nonzero((sizes == LEAST_IN_COLUMN) & (kinds == LEAST_IN_COLUMN))),
        "evenness": _evenness(changes, changed),
    }


def _groups(ordered: _Ints) -> tuple[_Ints, _Ints]:
    """Return where groups of equal numbers begin, and how many each has."""
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    return starts, np.concatenate((starts[1:], [len(ordered)])) - starts


def _evenness(changes: list[tuple[int, int]], rate: float) -> float:
    rate = min(max(rate, 0.005), 0.6)
    ratios = {
        (size, count): _log_binomial(size, count, rate) - _log_template(size, count)
        for size, count in set(changes)
    }
    return sum(map(ratios.__getitem__, changes))


@lru_cache(maxsize=1 << 14)
def _log_template(size: int, count: int) -> float:
    """Return the log-probability of so many changes in a column of a template."""
    slot = sum(exp(_log_binomial(size, count, rate)) for rate in _SLOT_RATES) / len(_SLOT_RATES)
    fixed = exp(_log_binomial(size, count, _FIXED_RATE))
    return log(max((1 - _SLOT_SHARE) * fixed + _SLOT_SHARE * slot, 1e-12))


def _log_binomial(size: int, count: int, rate: float) -> float:
    ways = lgamma(size + 1) - lgamma(count + 1) - lgamma(size - count + 1)
    return ways + count * log(rate) + (size - count) * log(1 - rate)
