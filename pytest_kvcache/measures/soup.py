"""Soups: tokens or words in random order, without any text in them.

*Soup* (:func:`find_soup`) never says anything twice. Of 64 tokens at least 63 are distinct, their ids lie
all over the vocabulary as the numbers of a uniform distribution do (Kolmogorov and Smirnov's distance at
most .17), and next to none is among the first 32nd of the ids, where tokenizers keep their frequent tokens:
punctuation, endings, function words. In text: of 48 words at least 47 are distinct, with no more than one
line break or punctuation mark and two common words of any language among them. Where they are joined in
six ways or more, no list of words looks like it, and one output suffices as proof.

*Small soup* (:func:`find_small_soup`) says few things in any order. Of 64 tokens (or words) 3 to 21
are distinct, and they follow one another as if drawn by lot: there are at least as many distinct pairs as
independent draws of the same tokens would give,

    sum over tokens a, b of 1 - (1 - p(a) p(b))^63,

whereas rows of a table, code and loops have half of that. Texts that hold numbers, keys or dumps of bytes
are left alone, for these are random; so are scripts whose letters are several tokens each.

Missed: soups shorter than a window, soups of numbers, the words of a text in random order
(:mod:`~pytest_kvcache.measures.improbability` sees them).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from pytest_kvcache.measures.commonwords import COMMON_WORDS
from pytest_kvcache.measures.views import View
from pytest_kvcache.records import Signal
from pytest_kvcache.text import printable

WINDOW = 64
STRIDE = 16
FEW_REPEATED = 63
"""Distinct tokens from which on a window says nothing twice: one in 1,000 healthy documents has one."""
UNIFORM = 0.17
FREQUENT_PART = 32
FREQUENT = 4
"""Tokens of a window that may be among the first 32nd of all ids; of evenly drawn ones, 2 are."""

WORDS = 48
WORD_STRIDE = 8
BREAKS = 1
COMMON = 2
BLANKS = 14
"""Words of a window that at least are joined by a blank: keys and other codes have none."""
JOINTS = 6
"""Ways in which the words of a window are joined from which on it cannot be a list."""
PART = 100
"""Characters, of which two parts lie within so many words."""

FEWEST = 3
VERY_FEW = 16
FEW = 21
"""Distinct tokens or words of a small soup. From the 17th on, it is not ``fail`` but ``warn``."""
LOT = {True: 1.0, False: 1.04}
"""Distinct pairs over those that a lot would give, from which on a window is by lot: of very few, of few.
Of 64 drawn from 21, the most disordered of some windows has 1.06 or more, 19 times of 20."""
LARGEST_SHARE = 0.5
"""Of one token: more of it is a matter of loops."""
MARKS = 0.1
"""Share of marks, digits and line breaks above which words are a table, code or verse."""
LITTLE = 300
"""Characters of such a part; in prose it has 40 distinct words, in a small soup 21 and two cut ones."""
CODES = 48
"""Characters of numbers and codes from which on a text may look as if drawn by lot."""
SPELT = 1.3
"""Characters per token below which a script's letters are several tokens each."""
SHOWN = 40
"""Characters of the soup that evidence shows."""

_WORD = re.compile(r"[^\W\d_]+")
_BREAKS = ("\n", ", ", ". ", "，", "。")
_BREAK = re.compile(r"[.,;:!?](?=\s)|\n|[。，、；：！？]")
_CODES = re.compile(r"(?:[\W_a-fA-F]{0,8}\d){12,}")
_MARK = re.compile(r"[\d_]|[^\w ]")


def find_soup(view: View) -> list[Signal]:
    """Return the stretches of random tokens or words, in characters if the text shows them.

    They are of kind ``soup``; lists of words without any punctuation are ``warn``, all else ``fail``.
    """
    in_text = _soup_of_words(view.text or "")
    if any(signal.severity == "fail" for signal in in_text):
        return in_text
    return _soup_of_tokens(view.ids or ()) or in_text


def find_small_soup(view: View) -> list[Signal]:
    """Return the stretches of a few tokens, or else words, in random order.

    They are of kind ``small-soup``, and ``fail`` if there is a text to it and they are very few.
    """
    text = view.text or ""
    if view.ids is None:
        return _small_soup_of_words(text)
    if text and len(text) < SPELT * len(view.ids):
        return []
    stretches = _drawn_by_lot(view.ids)
    if not stretches:
        return _small_soup_of_words(text) if _says_little(text) else []
    if _holds_codes(text):
        return []
    return [
        Signal("small-soup", _severity(few, text), "token", start, end, _shown(few))
        for start, end in stretches
        for few in [view.ids[start:end]]
    ]


def _soup_of_tokens(ids: Sequence[int]) -> list[Signal]:
    if len(ids) < WINDOW or not _may_be_soup(ids):
        return []
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(np.array(ids), WINDOW)[::STRIDE], axis=1)
    vocabulary = windows.max() + 1
    distinct = 1 + np.count_nonzero(np.diff(windows, axis=1), axis=1)
    distance = np.abs(windows / vocabulary - (np.arange(WINDOW) + 0.5) / WINDOW).max(axis=1)
    frequent = np.count_nonzero(windows < vocabulary / FREQUENT_PART, axis=1)
    random = (distinct >= FEW_REPEATED) & (distance <= UNIFORM) & (frequent <= FREQUENT)
    starts = [int(at) * STRIDE for at in np.flatnonzero(random)]
    return [
        Signal("soup", "fail", "token", start, end, f"{end - start} tokens from all over the vocabulary")
        for start, end in _stretches(starts, WINDOW)
    ]


def _may_be_soup(ids: Sequence[int]) -> bool:
    """Whether one half of a window, laid at regular places, could belong to a soup."""
    half, repeated = WINDOW // 2, WINDOW - FEW_REPEATED
    frequent = (max(ids) + 1) / FREQUENT_PART
    return any(
        len(set(part)) >= half - repeated and sorted(part)[FREQUENT] >= frequent
        for at in range(0, len(ids) - half + 1, half)
        for part in [ids[at : at + half]]
    )


def _soup_of_words(text: str) -> list[Signal]:
    if not _runs_on(text):
        return []
    spans = [word.span() for word in _WORD.finditer(text)]
    words = [text[start:end].lower() for start, end in spans]
    joints = [text[end:start] for (_, end), (start, _) in pairwise(spans)]
    random = {
        at: len(set(joints[at : at + WORDS - 1]))
        for at in range(0, len(words) - WORDS + 1, WORD_STRIDE)
        if _is_random(words[at : at + WORDS], joints[at : at + WORDS - 1])
    }
    signals = []
    for first, last in _stretches(list(random), WORDS):
        start, end = spans[first][0], spans[last - 1][1]
        ways = max(random.get(at, 0) for at in range(first, last, WORD_STRIDE))
        evidence = f'{last - first} words in no order: "{printable(text[start:end], SHOWN)}"'
        signals.append(Signal("soup", "fail" if ways >= JOINTS else "warn", "char", start, end, evidence))
    return signals


def _runs_on(text: str) -> bool:
    """Whether two parts of the text, side by side at regular places, could belong to a soup."""
    parts = [text[at : at + PART] for at in range(0, len(text) - PART + 1, PART)]
    without_breaks = [sum(map(part.count, _BREAKS)) <= BREAKS for part in parts]
    return any(
        one and other and _has_few_common(parts[at]) and _has_few_common(parts[at + 1])
        for at, (one, other) in enumerate(pairwise(without_breaks))
    )


def _has_few_common(part: str) -> bool:
    return len(COMMON_WORDS.intersection(part.lower().split())) <= COMMON


def _is_random(words: Sequence[str], joints: Sequence[str]) -> bool:
    distinct = set(words)
    return (
        len(distinct) >= WORDS - 1
        and len(distinct & COMMON_WORDS) <= COMMON
        and joints.count(" ") >= BLANKS
        and sum(_BREAK.search(joint) is not None for joint in joints) <= BREAKS
    )


def _small_soup_of_words(text: str) -> list[Signal]:
    words = _WORD.findall(text)
    stretches = _drawn_by_lot(words)
    spans = [word.span() for word in _WORD.finditer(text)] if stretches else []
    signals = []
    for first, last in stretches:
        start, end = spans[first][0], spans[last - 1][1]
        if len(_MARK.findall(text, start, end)) <= MARKS * (end - start):
            few = words[first:last]
            signals.append(Signal("small-soup", _severity(few, text), "char", start, end, _shown(few)))
    return signals


def _says_little(text: str) -> bool:
    """Whether some part of a text, laid at regular places, has many words and few distinct ones."""
    parts = (text[at : at + LITTLE].split() for at in range(0, len(text), LITTLE))
    return any(len(part) > FEW + 2 >= len(set(part)) for part in parts)


def _holds_codes(text: str) -> bool:
    return sum(len(code[0]) for code in _CODES.finditer(text)) >= CODES


def _severity(units: Sequence[Hashable], text: str) -> Literal["fail", "warn"]:
    return "fail" if text and len(set(units)) <= VERY_FEW else "warn"


def _shown(units: Sequence[Hashable]) -> str:
    shown = " ".join(str(unit) for unit, _ in Counter(units).most_common(4))
    return f'{len(set(units))} in random order, {len(units)} long: "{printable(shown, SHOWN)}"'


def _drawn_by_lot(units: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Return the stretches of few units that follow one another without any rule."""
    half = WINDOW // 2
    few = [len(set(units[at : at + half])) <= FEW for at in range(0, len(units) - half + 1, half)]
    starts = []
    for at in range(0, len(units) - WINDOW + 1, STRIDE):
        if few[-(-at // half)]:
            window = units[at : at + WINDOW]
            if FEWEST <= len(set(window)) <= FEW and _is_by_lot(window):
                starts.append(at)
    return _stretches(starts, WINDOW)


_SHARES = np.arange(WINDOW + 1) / WINDOW
_PAIR_DRAWN = 1 - (1 - np.outer(_SHARES, _SHARES)) ** (WINDOW - 1)
"""Chance that a pair is anywhere in a window drawn by lot, by how often each of the two units is in it."""


def _is_by_lot(window: Sequence[Hashable]) -> bool:
    counts = np.array(list(Counter(window).values()))
    if counts.max() > LARGEST_SHARE * WINDOW:
        return False
    expected = _PAIR_DRAWN[counts[:, None], counts].sum()
    return bool(len(set(pairwise(window))) >= LOT[len(counts) <= VERY_FEW] * expected)


def _stretches(starts: Sequence[int], window: int) -> list[tuple[int, int]]:
    """Return the union of windows, given where they start, as intervals in order, gaps of a window filled."""
    stretches: list[tuple[int, int]] = []
    for start in starts:
        if stretches and start <= stretches[-1][1] + window:
            stretches[-1] = (stretches[-1][0], start + window)
        else:
            stretches.append((start, start + window))
    return stretches
