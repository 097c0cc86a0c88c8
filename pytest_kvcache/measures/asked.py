"""What a prompt asks for: how often an output may repeat a unit because the prompt wants it to.

A prompt *quotes* a unit that it repeats itself, in at least 4 copies and 16 characters (or tokens):
ordinary text holds blank lines, indentation and round numbers. It *orders* the words of a unit by a
count ("50 times", 五十遍) or a verb ("repeat", 重复). Either excuses only so many copies: a model that
repeats without end does not do as it was told.
"""

from __future__ import annotations

import re

from pytest_kvcache.measures.loops import Loop
from pytest_kvcache.measures.repetition import words_of
from pytest_kvcache.measures.runs import find_runs, least_rotation, sequence_of_ids
from pytest_kvcache.measures.views import View

QUOTED_LENGTH = 16
QUOTED_RATIO = 4
"""Copies in an output that are excused by each copy in the prompt."""
ORDERED_RATIO = 1.2
"""Copies that are excused by each one ordered: models count badly."""
UNCOUNTED = 20
"""Copies that are ordered by "repeat" without a count."""

TURNED = 64
"""Words of a unit up to which a loop may begin elsewhere than what the prompt names."""

_ENGLISH = {"ten": 10, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "hundred": 100, "thousand": 1000}
_DIGITS = {char: value for value, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_POWERS = {"十": 10, "百": 100, "千": 1000}
_COUNT = re.compile(
    rf"\b(\d{{1,6}}|{'|'.join(_ENGLISH)}) (?:times|copies|repetitions)\b"
    rf"|(\d{{1,6}}|[{''.join([*_DIGITS, *_POWERS])}]{{1,9}}) ?[遍次]"
)
_REPEAT = re.compile(
    r"(?<!not )(?<!n't )(?<!n’t )(?<!never )(?<!without )\brepeat(?:edly)?\b|(?<![要别別勿])重[复複]"
)


class Asked:
    """What one prompt asks for. Takes the time to look at it once, whatever is held against it."""

    def __init__(self, prompt: View) -> None:
        text = " ".join((prompt.text or "").casefold().split())
        self._words = _joined(text)
        self._ordered = ORDERED_RATIO * _copies_ordered(text) + 1
        self._quoted_text = _copies_quoted(prompt.text or "")
        self._quoted_ids = _copies_quoted(sequence_of_ids(prompt.ids or ()))

    def excuses(self, loop: Loop) -> bool:
        """Whether the prompt asks for as many copies as the loop has."""
        quoted = self._quoted_text if loop.in_text else self._quoted_ids
        allowed = QUOTED_RATIO * quoted.get(loop.rotation, 0)
        if loop.in_text and self._names(loop):
            allowed = max(allowed, self._ordered)
        return loop.copies <= allowed

    def _names(self, loop: Loop) -> bool:
        """Whether the words of a unit stand in the prompt, one after the other.

        An exact loop may begin anywhere in them; a near one may number them besides.
        """
        words = _joined(loop.unit.casefold()).split()
        if loop.kind == "near-loop":
            words = [word for word in words if not word.isdecimal()]
        turns = range(len(words)) if len(words) <= TURNED else range(1)
        return bool(words) and any(f" {' '.join([*words[at:], *words[:at]])} " in self._words for at in turns)


def _copies_quoted(sequence: str) -> dict[str, float]:
    """Return the copies of each unit that a prompt repeats, by the unit's least rotation."""
    copies: dict[str, float] = {}
    for run in find_runs(sequence, min_length=QUOTED_LENGTH):
        unit = least_rotation(run.unit(sequence))
        copies[unit] = max(run.copies, copies.get(unit, 0))
    return copies


def _copies_ordered(text: str) -> int:
    counts = [_number(english or chinese) for english, chinese in _COUNT.findall(text)]
    return max(counts, default=UNCOUNTED if _REPEAT.search(text) else 0)


def _number(numeral: str) -> int:
    if numeral.isascii():
        return _ENGLISH.get(numeral) or int(numeral)
    total, digit = 0, 0
    for char in numeral:
        if char in _POWERS:
            total += (digit or 1) * _POWERS[char]
            digit = 0
        else:
            digit = _DIGITS[char]
    return total + digit


def _joined(text: str) -> str:
    """Return the words of a text, without punctuation, each between blanks."""
    return f" {' '.join(word for word in words_of(text) if word[0].isalnum())} "
