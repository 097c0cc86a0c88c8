"""Counting: how regularly the numbers of a repeated text run on, whatever they are written in.

A loop that numbers its copies counts up by one from copy to copy, in digits, letters, Roman numerals or
words, and holds no other number that changes. The numbers of a table do as they like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pytest_kvcache.measures.alignment import Alignment

_COUNTS: tuple[Sequence[str], ...] = (
    "abcdefghijklmnopqrstuvwxyz",
    "一二三四五六七八九十",
    ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii"),
    ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"),
    ("firstly", "secondly", "thirdly", "fourthly"),
)
"""What people number with, besides digits, in order."""


def _values() -> dict[str, frozenset[int]]:
    values: dict[str, frozenset[int]] = {}
    for words in _COUNTS:
        for value, word in enumerate(words, start=1):
            for spelt in {word, word.capitalize(), word.upper()}:
                values[spelt] = values.get(spelt, frozenset()) | {value}
    return values


_VALUES = _values()
_NO_VALUE: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Counting:
    """How the numbers of a repetition change from copy to copy."""

    progress: float
    """Numbers that are one more than in the copy before, for each copy: 1 if every copy has one."""
    odd: float
    """Share of numbers that are neither that nor the same."""


def is_number(word: str) -> bool:
    """Whether something may be numbered with a word."""
    return word in _VALUES or word.isdecimal()


def find_counting(words: Sequence[str], alignment: Alignment) -> Counting:
    """Compare each number of a stretch with the one nearest to a period before it."""
    start, period = alignment.start, alignment.period
    numbers = [(place, _value(word)) for place, word in enumerate(words[start : alignment.end])]
    numbers = [(place, values) for place, values in numbers if values]
    places = np.array([place for place, _ in numbers], np.int64)
    if not len(places):
        return Counting(0.0, 0.0)
    after = np.clip(np.searchsorted(places, places - period), 0, len(places) - 1)
    before = np.maximum(after - 1, 0)
    closer = np.abs(places - period - places[before]) < np.abs(places - period - places[after])
    counterpart = np.where(closer, before, after)
    up = odd = 0
    later = np.flatnonzero(places >= 0.8 * period)
    for index in later:
        now, then = numbers[index][1], numbers[counterpart[index]][1]
        if any(value + 1 in now for value in then):
            up += 1
        elif not now & then:
            odd += 1
    return Counting(min(1.0, up / max(1.0, alignment.copies - 1)), odd / max(1, len(later)))


def _value(word: str) -> frozenset[int]:
    """Return what a word may count as: an ``i`` is the ninth letter and a Roman one."""
    if word.isdecimal():
        return frozenset((int(word[-9:]),))
    return _VALUES.get(word, _NO_VALUE)
