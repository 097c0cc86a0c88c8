"""Exact repetition: maximal runs of a repeated unit in a sequence, for every period.

A sequence is a ``str``: a text as it is, or token ids as code points (:func:`sequence_of_ids`), so
that comparing and searching happen at the speed of ``memcmp`` and ``str.find``. Nothing here knows
what is healthy; :mod:`pytest_kvcache.measures.degeneration` does.

A run of period p contains each window of k >= p elements again p elements later, and, p being its
smallest period, not earlier. So windows laid at regular places and looked up in the next k elements
find every run whose period is at most k and which is long enough to hold a window and its copy. The
window doubles until it exceeds the longest period sought: O(n) work for each of O(log n) sizes, on
any input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

MOST_ID = 0x10FFFF


@dataclass(frozen=True, slots=True)
class Run:
    """A maximal stretch ``[start, end)`` that repeats its first ``period`` elements."""

    start: int
    end: int
    period: int

    @property
    def length(self) -> int:
        return self.end - self.start

    @property
    def copies(self) -> float:
        """Length over period: 2.5 is two copies and half of a third."""
        return self.length / self.period

    def unit(self, sequence: str) -> str:
        return sequence[self.start : self.start + self.period]


def sequence_of_ids(ids: Sequence[int]) -> str:
    """Return token ids as a sequence.

    Raises ValueError for ids that do not lie in ``0 .. 1114111``, as those of all models do.
    """
    try:
        return "".join(map(chr, ids))
    except (ValueError, OverflowError):
        wrong = next(token for token in ids if not 0 <= token <= MOST_ID)
        raise ValueError(f"token ids lie between 0 and {MOST_ID}, not {wrong}") from None


def find_runs(sequence: str, *, min_length: int) -> list[Run]:
    """Return all runs of at least ``min_length`` (>= 8) elements in at least 4 copies, by place."""
    found: set[Run] = set()
    step = min_length - 2 * (min_length // 4)
    for window in _doubling(min_length // 4, len(sequence) // 4):
        found.update(_runs_at_scale(sequence, window, step, min_length))
        step = window
    return sorted(found, key=lambda run: (run.start, -run.end))


def find_tails(sequence: str, *, min_length: int, min_copies: float) -> list[Run]:
    """Return the runs that end the sequence, smallest period first.

    Each has at least ``min_length`` elements in at least ``min_copies`` (>= 2.5) copies. The work
    is O(n).
    """
    backwards = sequence[::-1]
    size = len(sequence)
    tails: dict[int, Run] = {}
    window = min_length // 2
    while 2 * window <= size + window // 2:
        hit = backwards.find(backwards[:window], 1, 2 * window)
        if hit > 0 and hit not in tails:
            length = hit + _common_prefix(backwards, 0, hit)
            if length >= max(min_length, min_copies * hit):
                tails[hit] = Run(size - length, size, hit)
        window += window // 2
    return list(tails.values())


def least_rotation(unit: str) -> str:
    """Return the first of all rotations of a unit in alphabetical order: equal for ``abc`` and ``bca``.

    Takes O(n): of two starting places the one that loses a comparison is passed over, with all the
    places that it was compared through.
    """
    size = len(unit)
    one, two, matched = 0, 1, 0
    while one < size and two < size and matched < size:
        first, second = unit[(one + matched) % size], unit[(two + matched) % size]
        if first == second:
            matched += 1
            continue
        if first > second:
            one += matched + 1
        else:
            two += matched + 1
        two += one == two
        matched = 0
    start = min(one, two)
    return unit[start:] + unit[:start]


def _doubling(first: int, last: int) -> Iterator[int]:
    window = first
    yield window
    while window < last:
        window *= 2
        yield window


def _runs_at_scale(sequence: str, window: int, step: int, min_length: int) -> Iterator[Run]:
    """Yield the qualified runs that windows of one size see, laid ``step`` apart: all those of which more
    windows than that have their next copy in the run, and some others.

    In a run of length L and period p these are L - p - window + 1. The smallest windows see all periods up to
    their size, and L >= min_length: a step of min_length - 2 window misses none. Those of twice the size need
    only see the periods above half of theirs, and L >= 4 p: a step of window / 2 misses none.
    """
    passed = 0
    for at in range(0, len(sequence) - window, step):
        hit = sequence.find(sequence[at : at + window], at + 1, at + 2 * window)
        if hit >= 0 and at >= passed:
            run = _maximal(sequence, at, hit)
            if run.length >= max(min_length, 4 * run.period):
                yield run
                # Two runs with periods <= window that share 2 windows are the same run.
                passed = run.end - 2 * window


def _maximal(sequence: str, first: int, second: int) -> Run:
    """Extend an equality of the elements at two places to the run that it belongs to."""
    start = first - _common_suffix(sequence, first, second)
    end = second + _common_prefix(sequence, first, second)
    return Run(start, end, second - first)


def _common_prefix(sequence: str, first: int, second: int) -> int:
    """Return how many elements agree from ``first`` and ``second`` (the greater) onwards."""
    room = len(sequence) - second
    return _gallop(room, lambda a, b: sequence[first + a : first + b] == sequence[second + a : second + b])


def _common_suffix(sequence: str, first: int, second: int) -> int:
    """Return how many elements agree before ``first`` (the lesser) and ``second``."""
    return _gallop(first, lambda a, b: sequence[first - b : first - a] == sequence[second - b : second - a])


def _gallop(room: int, equal: Callable[[int, int], bool]) -> int:
    """Return the largest n <= ``room`` for which ``equal`` holds on ``[0, n)``, comparing O(n)."""
    agreed, step = 0, 32
    while agreed < room and equal(agreed, min(agreed + step, room)):
        agreed = min(agreed + step, room)
        step *= 2
    while step > 1:
        step //= 2
        if agreed + step <= room and equal(agreed, agreed + step):
            agreed += step
    return agreed
