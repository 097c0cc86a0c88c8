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

import numpy as np
from numpy.typing import NDArray

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
    """the of and was were are been being their they them would which these those his her him she he has had
    have who whose because could should about than our your an we you this with from that it is in to for
    on as by at be not or but if""".split()
)
_SORTS = {
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ": (2.0, 1.7),
    ".": (3.0, 1.0),
    "_": (2.0, 0.6),
    "([{<": (2.0, 0.4),
    ",;:!?": (1.0, 1.0),
    ')]}>"': (0.6, 1.0),
    "=$#@^~`+*|%&\\": (1.2, 0.6),
}
"""What sticks to a word, with the surprise of it after a function word and after any other."""
_SORT_OF = {char: chars for chars in _SORTS for char in chars}
_SIGNS = re.escape("".join(chars for chars in _SORTS if not chars.isalpha()))
_GLUED = re.compile(rf"(?<![^\s(\[\"'“‘*])([A-Za-z]?[a-z]+)((?:[A-Z]|[{_SIGNS}][A-Za-z])[A-Za-z]?)")
_PLAIN_WORD = re.compile(r"(?<=[ \n])[a-z]+(?=[ \n])")
_CODE = ("\n    ", "\n\t", "()", " = ", "::", "->", ";\n", "{\n", ":\n", "</", '":')

_SMALL, _CAPITAL, _SIGN = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Glue:
    """Different gluings of a text: their places, and how surprising they are together."""

    spans: tuple[tuple[int, int], ...]
    surprise: float
    function_words: int
    """How many of them stick to a function word."""


def find_glue(characters: Characters) -> Glue | None:
    """Return what sticks to the words of a text; None if it is not prose in Latin letters, or too clean."""
    if np.count_nonzero(_places(characters)) < FEWEST_PLACES:
        return None
    text, letters = characters.text, characters.letters
    if letters[LATIN] < LATIN_SHARE * letters[1:].sum():
        return None
    words = len(_PLAIN_WORD.findall(text))
    if words < FEWEST_WORDS or max(map(text.count, _CODE)) > CODE_SIGNS + CODE_SIGNS_PER_WORD * words:
        return None
    gluings = {(found[1].lower(), found[2]): found.span() for found in _GLUED.finditer(text)}
    sorts = Counter((_SORT_OF[stuck[0]], word in _FUNCTION_WORDS) for word, stuck in gluings)
    surprise = sum(
        min(count, MOST_ALIKE) * _SORTS[chars][0 if function_word else 1]
        for (chars, function_word), count in sorts.items()
    )
    return Glue(
        spans=tuple(gluings.values()),
        surprise=surprise - LENGTH * log(words / 100),
        function_words=sum(count for (_, function_word), count in sorts.items() if function_word),
    )


def _places(characters: Characters) -> NDArray[np.uint8]:
    """Return uint8[n]: non-zero where a capital follows a small letter, or a sign does and a letter it."""
    classes = _class_of_code[np.minimum(characters.codes, 0x7F)]
    small, capital = classes & _SMALL, classes >> 1 & 1
    glued = np.zeros(classes.size, np.uint8)
    glued[:-1] = small[:-1] & capital[1:]
    glued[:-2] |= small[:-2] & classes[1:-1] >> 2 & (small | capital)[2:]
    return glued


_class_of_code = np.zeros(0x80, np.uint8)
_class_of_code[[ord(char) for char in _SORT_OF]] = _SIGN
_class_of_code[ord("A") : ord("Z") + 1] = _CAPITAL
_class_of_code[ord("a") : ord("z") + 1] = _SMALL
