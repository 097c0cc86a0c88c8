"""Repetition of n-grams: how much of an output it has said before."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pytest_kvcache.measures.views import UNSPACED, Outputlike, view_output

_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+|[^\w\s]")


def ngram_repetition(output: Outputlike, n: int) -> float:
    """Return the share of n-grams that occurred before, between 0 and 1: 1 - distinct / total.

    Over token ids where there are any, else over the words of the text (characters in scripts without
    blanks, and punctuation marks). An output shorter than n has no n-gram and repeats nothing: 0.

    This is seq-rep-n of Welleck et al., "Neural Text Generation with Unlikelihood Training" (2020).
    Raises ValueError for what is no output, and for an n that is no whole number of at least 1.
    """
    _check_length(n)
    units = _units(output)
    total = len(units) - n + 1
    if total < 1:
        return 0.0
    return 1 - len(set(zip(*(units[i:] for i in range(n)), strict=False))) / total


def words_of(text: str) -> list[str]:
    """Return the words of a text; characters of scripts without blanks and punctuation marks are words."""
    return _WORD.findall(text)


def _check_length(n: object) -> None:
    if not (isinstance(n, int) and n >= 1):
        raise ValueError(f"n must be a whole number of at least 1, not {n!r}")


def _units(output: Outputlike) -> Sequence[object]:
    view = view_output(output)
    return view.ids if view.ids is not None else words_of(view.text or "")
