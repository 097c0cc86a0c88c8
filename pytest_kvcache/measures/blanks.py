"""Blanks: long stretches of an output in which nothing is to be seen.

The rule: a stretch of blanks (spaces, tabs, line breaks, zero-width and other invisible characters) of
several sorts, at least 200 of them, or 64 that change from one sort to another 32 times; or at least 16
invisible ones that are no white space. The longest in 27,000 healthy documents has 87 characters, and none
changes more than 6 times.
A stretch of one character alone, if it takes room, is a matter of :mod:`~pytest_kvcache.measures.loops`.

Every 8th character is looked at first: a stretch that qualifies shows itself there.

Missed: blanks between which a letter stands now and then.
"""

from __future__ import annotations

import re
from itertools import pairwise

from pytest_kvcache.measures.views import View
from pytest_kvcache.records import Signal
from pytest_kvcache.text import printable

BLANKS = 200
MIXED_BLANKS = 64
CHANGES = 32
INVISIBLE = 16
STRIDE = 8
SHOWN = 24
"""Characters of the stretch that evidence shows."""

_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff"
)
_FILLERS = "\u115f\u1160\u2800\u3164\uffa0"
"""Invisible, but as wide as what they stand for: drawings are made with them."""
_BLANK = rf"[\s{_INVISIBLE}]"
_SAMPLED = re.compile(rf"{_BLANK}{{{MIXED_BLANKS // STRIDE}}}|[{_INVISIBLE}]{{{INVISIBLE // STRIDE}}}")
_STRETCH = re.compile(
    rf"(?<!{_BLANK}){_BLANK}{{{MIXED_BLANKS},}}|(?<![{_INVISIBLE}])[{_INVISIBLE}]{{{INVISIBLE},}}"
)


def find_blanks(view: View) -> list[Signal]:
    """Return a ``fail`` signal of kind ``blanks`` for each long stretch of blanks, by place."""
    text = view.text or ""
    if _SAMPLED.search(text[::STRIDE]) is None:
        return []
    return [
        Signal("blanks", "fail", "char", stretch.start(), stretch.end(), _evidence(stretch[0]))
        for stretch in _STRETCH.finditer(text)
        if _is_long(stretch[0])
    ]


def _is_long(stretch: str) -> bool:
    changes = sum(one != other for one, other in pairwise(stretch))
    without_width = not stretch[0].isspace() and stretch[0] not in _FILLERS
    return (
        changes >= CHANGES
        or without_width
        or (changes > 0 and (len(stretch) >= BLANKS or not stretch[0].isspace()))
    )


def _evidence(stretch: str) -> str:
    return f'"{printable(stretch, SHOWN)}": {len(stretch)} blanks in a row'
