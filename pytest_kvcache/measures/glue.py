"""Glue: words of running text that something sticks to, as happens where random tokens replace others.

About 40 % of the tokens of a vocabulary begin neither with a blank nor with a small letter, so that they
stick to the word before them: ``the_cast``, ``wasForm``, ``of.clone``. Prose glues by hyphens and apostrophes
only; names (``JavaScript``), files and addresses are few and come again. Each different gluing adds to a
surprise by what stands on its left (a word like *of* is no part of a name) and what is stuck to it; the
surprise that a longer text may have is taken off. Code glues everything, but repeats its signs.

The weights are log-odds: a logistic regression told healthy documents of the benchmark's tuning half
from the same with 10 and 30 % of their tokens replaced by random ones in ASCII; rounded.

Missed: small letters stuck to small letters (``oneout``), tokens that begin with a blank, code, tables,
and half of what happens to other languages than English, whose small words are not known here.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from math import log

from pytest_kvcache.measures.characters import LATIN, Characters

FEWEST_PLACES = 4
"""Places of glue that make a text worth a closer look."""
LATIN_SHARE = 0.9
"""Share of the letters that are Latin, at least."""
FEWEST_WORDS = 20
"""Plain words (small letters between blanks) of a text that can be judged."""
CODE_SIGNS, CODE_SIGNS_PER_WORD = 3, 0.02
"""How often any one sign of code may occur in prose: so often, and so much more for each plain word."""
MOST_ALIKE = 3
"""Different gluings of one sort that count."""
LENGTH = 1.5
"""Surprise that a text may have for each e-fold of its plain words beyond 100."""

_FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        "the of and was were are been being their they them would which these those his her him she he had "
        "have who whose because could should about than our your an we you it but be",
    )
)
"""English words that are no part of names in programs, as *this*, *to*, *from* and *is* are."""
_SORTS = {
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ": (2.0, 1.7),
    ".": (3.0, 1.0),
    "_": (2.0, 0.6),
    "([{<": (2.0, 0.4),
    ",;:!": (1.0, 1.0),
    ')]}>"': (0.6, 1.0),
    "=$#@^~`+*|%&\\": (1.2, 0.6),
}
"""What sticks to a word, with the surprise of it after a function word and after any other."""
_SORT_OF = {char: chars for chars in _SORTS for char in chars}
_SIGNS = re.escape("".join(chars for chars in _SORTS if not chars.isalpha()))
_GLUED = re.compile(rf"(?<![^\s(\[\"'“‘*])([A-Za-z]?[a-z]+)((?:[A-Z]|[{_SIGNS}][A-Za-z])[A-Za-z]?)")
_PLAIN_WORD = re.compile(r"(?<=[ \n])[a-z]+(?=[ \n])")
_CODE = ("\n    ", "\n\t", "()", " = ", "::", "->", ";\n", "{\n", ":\n", "</", '":')

_CLASSES = bytes(
    ord("a" if char.islower() else "A" if char.isupper() else "." if char in _SORT_OF else " ")
    for char in map(chr, range(0x80))
).ljust(0x100, b" ")
"""Small letters, capitals, and what may stick to words, by byte."""
_PLACES = (b"aA", b"a.a", b"a.A")


@dataclass(frozen=True, slots=True)
class Glue:
    """Different gluings of a text: their places, and how surprising they are together."""

    spans: tuple[tuple[int, int], ...]
    surprise: float
    function_words: int
    """How many of them stick to a function word."""


def find_glue(characters: Characters) -> Glue | None:
    """Return what sticks to the words of a text; None if it is not prose in Latin letters, or too clean."""
    text = characters.text
    classes = text.encode("latin-1", "replace").translate(_CLASSES)
    if sum(map(classes.count, _PLACES)) < FEWEST_PLACES:
        return None
    code = max(map(text.count, _CODE)) - CODE_SIGNS
    if code > CODE_SIGNS_PER_WORD * text.count(" ") or not _is_latin(characters):
        return None
    words = len(_PLAIN_WORD.findall(text))
    if words < FEWEST_WORDS or code > CODE_SIGNS_PER_WORD * words:
        return None
    gluings = {(found[1].lower(), found[2]): found.span() for found in _GLUED.finditer(text)}
    sorts = Counter((_SORT_OF[stuck[0]], word in _FUNCTION_WORDS) for word, stuck in gluings)
    surprise = sum(
        min(count, MOST_ALIKE) * _SORTS[chars][0 if function_word else 1]
        for (chars, function_word), count in sorts.items()
    )
    return Glue(
        spans=tuple(gluings.values()),
        surprise=surprise - LENGTH * log(max(words / 100, 1)),
        function_words=sum(count for (_, function_word), count in sorts.items() if function_word),
    )


def _is_latin(characters: Characters) -> bool:
    letters = characters.letters
    return bool(letters[LATIN] >= LATIN_SHARE * letters[1:].sum())
