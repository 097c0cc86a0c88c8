"""Near-loops: text that goes round with small changes, from noise in its copies to a running number.

:mod:`~pytest_kvcache.measures.alignment` finds where a sequence repeats itself inexactly. Healthy text
does so too, in tables, records, lists and refrains; what separates it from a loop is weighed up here as
log-odds, a sum of features times weights. They are a logistic regression of the tuning half of the
detection corpus, fitted by ``python -m detection fit``. A loop has copies that change little, anywhere,
and are equally long; a template has slots that change in every copy, punctuation and digits.

Three sequences of an output are looked at: its token ids, its words, and its words with all that may
count (digits, letters, numerals) taken for the same word, where a loop that numbers its copies is one
without changes. In token ids a repetition with few errors at one fixed distance is a loop by itself.

Misses: fewer than three copies, fewer than 36 words or tokens, copies that differ in more than about a
third of their words, and loops of tables and records, which only exact repetition proves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import log, sqrt
from operator import mul

import numpy as np

from pytest_kvcache.measures.alignment import Alignment, Elements, find_alignments
from pytest_kvcache.measures.counting import find_counting, is_number
from pytest_kvcache.measures.loops import Loop, shown
from pytest_kvcache.measures.runs import sequence_of_ids
from pytest_kvcache.measures.views import UNSPACED, View

MOST_CHANGED = 0.5
LEAST_COVERED = 0.3
"""A repetition with more changes, or fewer of its columns filled, is not weighed at all."""

FEATURES = (
    *("bias", "length", "copies", "changed", "changed_little", "uneven", "even", "punctuation", "digits"),
    *("types", "at_end", "slots", "short_slots", "steady", "progress", "odd"),
)
"""In the order of `features`, which defines them. The last two count for numbers alone."""
WEIGHTS = (
    *(-14.35, 1.83, 3.90, -11.35, -0.47, 0.77, 1.22, -7.02, -12.73),
    *(0.16, 1.42, -1.73, -0.94, 1.14, 0, 0),
)
FAIL_AT = 2.6
WARN_AT = 1.0
"""Log-odds of words and tokens. Of 69,340 healthy documents of the tuning half 18 reach the first."""
WEIGHTS_OF_NUMBERED = (
    *(-24.72, 1.55, 4.30, 10.87, -1.92, -0.14, -0.42, -12.80, -19.62),
    *(0.44, 1.49, -1.39, 1.77, 2.33, 2.88, 0.44),
)
NUMBERED_FAIL_AT = 0.0
"""Of words with all numbers alike; 7 reach it."""

LENGTH_COUNTED = 96
COPIES_COUNTED = 8
"""A table does not become a loop by being long."""

FEW_CHANGED = 0.05
FEW_COPIES = 3.9
FEW_LENGTH = 64
FEW_PERIOD = 8
FEW_STEADY = 0.9
FEW_DIGITS = 0.15
"""A loop of tokens with few errors: at one distance, without slots, and no table of numbers."""
EXACT = 0.005
"""Repetition of tokens with fewer changes is left to the rules of exact loops, which know decoration."""

UNKNOWN_PUNCTUATION = 0.3
UNKNOWN_DIGITS = 0.1
"""Shares where only token ids are known: as in a table, to be careful."""

_HAS_UNSPACED = re.compile(f"[{UNSPACED}]")
_WORDS = re.compile(r"\d+|[^\W\d]+|[^\w\s]+")
_WORDS_AND_UNSPACED = re.compile(rf"[{UNSPACED}]|\d+|[^\W\d{UNSPACED}]+|[^\w\s]+")
_NUMBER = "#"


@dataclass(frozen=True)
class Sequenced:
    """An output as one sequence of elements that are equal where its words or tokens are."""

    elements: Elements
    words: Sequence[str]
    """Of the text: letters, digits, or punctuation in a row; characters of unspaced scripts one by one."""
    text: str
    kind: str
    """``words``, ``numbered`` (numbers count as equal) or ``tokens``."""

    @property
    def in_text(self) -> bool:
        return self.kind != "tokens"

    @cached_property
    def places(self) -> list[tuple[int, int]]:
        """Where each word stands, in characters."""
        return [match.span() for match in _pattern(self.text).finditer(self.text)]

    @cached_property
    def shares(self) -> tuple[float, float]:
        """Of punctuation and of digits among all words."""
        return _shares_among(self.words)


def find_near_loops(view: View) -> list[Loop]:
    """Return the near-loops of an output in the order of their places, none overlapping another."""
    findings = list(_findings(view))
    # What the text shows, as surely, is not told again in tokens.
    in_text = max(((f.sure >= 0, f.sequence.in_text) for f in findings), default=(False, False))[1]
    kept: list[_Finding] = []
    for finding in sorted(findings, key=lambda each: each.start):
        if finding.sequence.in_text is not in_text:
            continue
        if kept and finding.start < kept[-1].end:
            kept[-1] = kept[-1].joined(finding)
        else:
            kept.append(finding)
    return [finding.loop() for finding in kept]


def find_repetitions(view: View) -> Iterator[tuple[Alignment, Sequenced]]:
    """Yield the repetitions of an output that there is enough of to weigh.

    Where its tokens show none, its words are not looked at, and its numbers only where its words look
    suspicious.
    """
    text = view.text or ""
    found: list[Alignment] = []
    if view.ids is not None:
        tokens = np.asarray(view.ids, np.int64).view(np.uint64)
        search = find_alignments(tokens)
        if not search.alignments:
            return
        found = search.alignments
    words = _pattern(text).findall(text)
    if view.ids is not None:
        yield from _weighable(found, Sequenced(tokens, words, text, "tokens"))
    if not words:
        return
    sequence = Sequenced(_elements(words), words, text, "words")
    search = find_alignments(sequence.elements)
    yield from _weighable(search.alignments, sequence)
    if search.suspicious:
        numbers = set(filter(is_number, set(words)))
        if numbers or _NUMBER in words:
            alike = [_NUMBER if word in numbers else word for word in words]
            sequence = Sequenced(_elements(alike), words, text, "numbered")
            yield from _weighable(find_alignments(sequence.elements).alignments, sequence)


def _weighable(found: list[Alignment], sequence: Sequenced) -> Iterator[tuple[Alignment, Sequenced]]:
    return ((alignment, sequence) for alignment in found if _is_weighable(alignment, sequence))


def _is_weighable(alignment: Alignment, sequence: Sequenced) -> bool:
    """Whether there is enough of a repetition to weigh, and something to read in it."""
    if alignment.changed > MOST_CHANGED or alignment.covered < LEAST_COVERED:
        return False
    if sequence.in_text:
        return any(word[0].isalpha() for word in _unit(alignment, sequence))
    return alignment.changed >= EXACT


def features(alignment: Alignment, sequence: Sequenced) -> tuple[float, ...]:
    """Return :data:`FEATURES` of a repetition."""
    punctuation, digits = _shares(alignment, sequence)
    progress = odd = 0.0
    if sequence.kind == "numbered":
        counting = find_counting(sequence.words, alignment)
        progress, odd = counting.progress, counting.odd
    return (
        1.0,
        log(min(alignment.length, LENGTH_COUNTED)),
        log(min(alignment.copies, COPIES_COUNTED)),
        alignment.changed,
        log(alignment.changed + 0.01),
        min(alignment.evenness, 0.0) / 10,
        min(max(alignment.evenness, 0.0), 30.0) / 10,
        punctuation,
        digits,
        log(alignment.types),
        float(alignment.end >= len(sequence.elements) - 3),
        float(alignment.slots > 0),
        sqrt(alignment.short_slots / alignment.period),
        alignment.steady,
        progress,
        odd,
    )


def has_few_errors(alignment: Alignment, sequence: Sequenced) -> bool:
    """Whether a repetition of tokens is a loop that only a few errors keep from being exact."""
    return (
        not sequence.in_text
        and alignment.changed <= FEW_CHANGED
        and alignment.copies >= FEW_COPIES
        and alignment.length >= FEW_LENGTH
        and alignment.period >= FEW_PERIOD
        and alignment.steady >= FEW_STEADY
        and alignment.slots == alignment.short_slots == 0
        and alignment.evenness >= 0
        and _shares(alignment, sequence)[1] <= FEW_DIGITS
    )


@dataclass(frozen=True, slots=True)
class _Finding:
    """A repetition that is weighed up to be a loop, in elements of its sequence."""

    sure: float
    """Log-odds by which it exceeds what proves a loop."""
    alignment: Alignment
    sequence: Sequenced
    start: int
    end: int

    def joined(self, other: _Finding) -> _Finding:
        """Return the surer one of two that overlap, with the places of both."""
        surer = max(self, other, key=lambda each: each.sure)
        return replace(surer, start=min(self.start, other.start), end=max(self.end, other.end))

    def loop(self) -> Loop:
        sequence, alignment = self.sequence, self.alignment
        start, end = self.start, self.end
        copies = (end - start) / alignment.period
        if sequence.in_text:
            unit = " ".join(_unit(alignment, sequence))
            start, end = sequence.places[start][0], sequence.places[end - 1][1]
        else:
            unit = sequence_of_ids(alignment.unit)
        repeated = shown(unit, sequence.in_text, copies)
        return Loop(
            kind="near-loop",
            severity="fail" if self.sure >= 0 else "warn",
            in_text=sequence.in_text,
            start=start,
            end=end,
            copies=copies,
            unit=unit,
            evidence=f"{repeated}, {alignment.changed:.0%} of it changed",
        )


def _findings(view: View) -> Iterator[_Finding]:
    for alignment, sequence in find_repetitions(view):
        numbered = sequence.kind == "numbered"
        weights, fail_at = (WEIGHTS_OF_NUMBERED, NUMBERED_FAIL_AT) if numbered else (WEIGHTS, FAIL_AT)
        sure = sum(map(mul, weights, features(alignment, sequence))) - fail_at
        if sure < 0 and has_few_errors(alignment, sequence):
            sure = 0.0
        if sure >= 0 or (sure >= WARN_AT - fail_at and not numbered):
            yield _Finding(sure, alignment, sequence, alignment.start, alignment.end)


def _unit(alignment: Alignment, sequence: Sequenced) -> list[str]:
    """Return the words that most copies agree on; a number as in the first copy."""
    stretch = slice(alignment.start, alignment.end)
    spelt = dict(
        zip(reversed(sequence.elements[stretch].tolist()), reversed(sequence.words[stretch]), strict=True)
    )
    return [spelt[element] for element in alignment.unit]


def _shares(alignment: Alignment, sequence: Sequenced) -> tuple[float, float]:
    """Return the shares of punctuation and digits: of the stretch, or of the whole text for tokens."""
    if not sequence.in_text:
        return sequence.shares
    return _shares_among(sequence.words[alignment.start : alignment.end])


def _shares_among(words: Sequence[str]) -> tuple[float, float]:
    if not words:
        return UNKNOWN_PUNCTUATION, UNKNOWN_DIGITS
    firsts = [word[0] for word in words]
    punctuation = len(words) - sum(map(str.isalnum, firsts))
    return punctuation / len(words), sum(map(str.isdecimal, firsts)) / len(words)


def _pattern(text: str) -> re.Pattern[str]:
    return _WORDS_AND_UNSPACED if _HAS_UNSPACED.search(text) else _WORDS


def _elements(words: Sequence[str]) -> Elements:
    return np.fromiter(map(hash, words), np.int64, len(words)).view(np.uint64)
