"""Corruption: single random tokens strewn into text that is healthy otherwise.

A vocabulary of many languages gives itself away by its scripts. A foreign word is *bare* where it stands
in running text without any punctuation around it, glued to letters of another script or a space away.
Healthy text has bare words of its own script and of the Latin one (names, code), at times of a third;
two further scripts are no accident once a word is glued, nor are three.

Not counted: one or two Greek letters (units, mathematics), Chinese characters in Korean. Missed:
corruption of too few tokens, or from a vocabulary of English alone, unless letters and signs are glued
in ways of their own.
"""

from __future__ import annotations

import numpy as np

from pytest_kvcache.measures.characters import COMMON, HAN, HANGUL, LATIN, SCRIPTS, Characters
from pytest_kvcache.records import Signal
from pytest_kvcache.text import printable

SHOWN = 32
"""Characters around the first finding that evidence shows."""

_WEIGHTS = np.ones(len(SCRIPTS), np.int64)
_WEIGHTS[COMMON] = 0
_WEIGHTS[[HAN, HANGUL]] = 3
"""Letters of the Latin script that a letter of each script is worth."""


def find_corruption(characters: Characters) -> list[Signal]:
    """Return at most one signal: from the first to the last word that does not belong."""
    if characters.text.isascii():
        return []
    return _foreign_words(characters)


def _foreign_words(characters: Characters) -> list[Signal]:
    home = int((characters.letters * _WEIGHTS).argmax())
    switches = characters.switches
    belongs = np.zeros(len(SCRIPTS), np.bool_)
    belongs[[COMMON, home, LATIN]] = True
    if home == HANGUL:
        belongs[HAN] = True
    foreign = ~(belongs[switches.before] & belongs[switches.after])
    places = switches.place[foreign]
    if places.size < 2:
        return []
    scripts = set(switches.before[foreign].tolist()) | set(switches.after[foreign].tolist())
    scripts -= set(np.flatnonzero(belongs).tolist())
    glued = bool(switches.glued[foreign].any())
    if len(scripts) + glued < 3:
        return []
    start, end = int(places[0]), int(places[-1])
    names = ", ".join(SCRIPTS[script] for script in sorted(scripts))
    around = printable(characters.text[max(start - SHOWN // 2, 0) : start + SHOWN // 2], SHOWN)
    return [Signal("corruption", "fail", "char", start, end, f'{names} in {SCRIPTS[home]} text: "{around}"')]
