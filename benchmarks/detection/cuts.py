"""Cuts: contiguous pieces of texts that begin and end as outputs of a model do."""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from detection.tokenizers import QwenTokenizer

SHORTEST = 32
LONGEST = 512
_CHARACTERS_PER_TOKEN = 8
_NEAR = 400
_BREAKS = (re.compile(r"\n+"), re.compile(r"(?<=[.!?])\s+|(?<=[。！？])"), re.compile(r"\s+"))


class Cut(NamedTuple):
    """A contiguous piece of a text, ``start`` in characters."""

    start: int
    text: str
    token_ids: tuple[int, ...]


def cuts(text: str, tokenizer: QwenTokenizer, seed: str) -> Iterator[Cut]:
    """Cut a text into pieces that do not overlap, of SHORTEST to LONGEST tokens.

    A piece begins where a line does, or a sentence where lines are long, and ends where its length is
    reached, as outputs do, or with the text.
    """
    generator = random.Random(seed)
    text = unicodedata.normalize("NFC", text).strip("\n")
    start = 0
    while start < len(text):
        piece, ids = _head(
            text[start : start + LONGEST * _CHARACTERS_PER_TOKEN], tokenizer, _length(generator)
        )
        if len(ids) >= SHORTEST:
            yield Cut(start, piece, ids)
        start = next_start(text, start + max(1, len(piece)))


def next_start(text: str, end: int) -> int:
    """Return where the next line begins after ``end``, or else the next sentence or word, if near."""
    for pattern in _BREAKS:
        if found := pattern.search(text, end, end + _NEAR):
            return found.end()
    return end


def _length(generator: random.Random) -> int:
    """Draw a length: an eighth is short, a quarter is cut off at the limit."""
    where = generator.random()
    if where < 1 / 8:
        return generator.randrange(SHORTEST, 128)
    return generator.randrange(128, LONGEST) if where < 3 / 4 else LONGEST


def _head(window: str, tokenizer: QwenTokenizer, length: int) -> tuple[str, tuple[int, ...]]:
    """Return the first ``length`` tokens of a text, fewer if the last is but a part of a character."""
    ids: tuple[int, ...] = ()
    for characters in (length * 4, length * _CHARACTERS_PER_TOKEN):
        ids = tokenizer.encode(window[:characters])
        if len(ids) > length or characters >= len(window):
            break
    ids = ids[:length]
    while ids and not window.startswith(piece := tokenizer.decode(ids)):
        ids = ids[:-1]
    return (piece, ids) if ids else ("", ())
