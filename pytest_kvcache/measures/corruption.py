"""Corruption: single random tokens strewn into text that is healthy otherwise.

*Foreign words.* A vocabulary of many languages gives itself away by its scripts. A foreign word is *bare*
where it stands in running text without any punctuation around it, glued to letters of another script or
a blank away. Healthy text has bare words of its own scripts and of the Latin one (names, code), at times
of a third script; it hardly has two further ones, nor any stuck to letters of another, nor U+FFFD (half a
character, as many tokens hold). Each counts for points, and three are a proof.

*Glue*, for vocabularies of English alone: see :mod:`~pytest_kvcache.measures.glue`.

Missed: corruption by few tokens; random words of the text's own script that begin with a blank; in code,
all that comes in ASCII.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pytest_kvcache.measures.characters import COMMON, HAN, HANGUL, LATIN, SCRIPTS, Characters
from pytest_kvcache.measures.glue import find_glue
from pytest_kvcache.records import Signal
from pytest_kvcache.text import printable

OWN_SHARE = 0.2
"""Share of the letters that makes a script one of the text's own. Dense scripts count threefold."""
POINTS_GLUED, POINTS_BARE, POINTS_LOST = 2, 1, 2
"""Points for each foreign script with a word glued to another script, or with bare words only; for U+FFFD."""
PROOF = 3
APART = 16
"""Characters between foreign words that make them two places."""
SURPRISE = 9.0
"""Surprise of glue that is a proof if some of it sticks to a function word (in 3 of the 68,000 healthy
documents of the tuning half, tables of run-together cells); ..."""
SURPRISE_TO_WARN = 8.0
"""... and of glue that is worth a warning."""
SHOWN = 32
"""Characters around the first finding that evidence shows."""

_WEIGHTS = np.ones(len(SCRIPTS), np.int64)
_WEIGHTS[COMMON] = 0
_WEIGHTS[[HAN, HANGUL]] = 3


def find_corruption(characters: Characters) -> list[Signal]:
    """Return at most one signal: from the first to the last word that does not belong."""
    return _foreign_words(characters) or _glued_words(characters)


def _foreign_words(characters: Characters) -> list[Signal]:
    text = characters.text
    if characters.is_latin:
        return []
    weights = characters.letters * _WEIGHTS
    own = weights >= OWN_SHARE * weights.sum()
    own[[COMMON, LATIN, weights.argmax()]] = True
    own[HAN] |= own[HANGUL]
    if not weights[~own].any():
        return []
    switches = characters.switches
    foreign = ~(own[switches.before] & own[switches.after])
    lost = text.rstrip("\ufffd").find("\ufffd")
    if not foreign.any():
        return []
    bare = _scripts_at(characters, foreign) - set(np.flatnonzero(own).tolist())
    glued = _scripts_at(characters, foreign & switches.glued) & bare
    points = POINTS_BARE * len(bare - glued) + POINTS_GLUED * len(glued) + POINTS_LOST * (lost >= 0)
    places = switches.place[foreign]
    if points < PROOF or not _are_strewn(text, places):
        return []
    start, end = int(places[0]), int(places[-1]) + 1
    names = ", ".join(SCRIPTS[script] for script in sorted(bare))
    return [Signal("corruption", "fail", "char", start, end, f'strewn in, {names}: "{_around(text, start)}"')]


def _glued_words(characters: Characters) -> list[Signal]:
    glue = find_glue(characters)
    if glue is None or glue.surprise < SURPRISE_TO_WARN:
        return []
    text = characters.text
    proof = glue.surprise >= SURPRISE and glue.function_words > 0
    start, end = glue.spans[0][0], glue.spans[-1][1]
    shown = ", ".join(f'"{printable(_word_at(text, place), 20)}"' for place, _ in glue.spans[:3])
    return [Signal("corruption", "fail" if proof else "warn", "char", start, end, f"words glued: {shown}")]


def _scripts_at(characters: Characters, chosen: NDArray[np.bool_]) -> set[int]:
    switches = characters.switches
    return {*switches.before[chosen].tolist(), *switches.after[chosen].tolist()}


def _are_strewn(text: str, places: NDArray[np.int64]) -> bool:
    """Whether the places lie apart and differ: a text may quote a phrase of many scripts, and repeat it."""
    firsts = places[np.diff(places, prepend=-APART) >= APART].tolist()
    return len({text[max(place - 1, 0) : place + 2] for place in firsts}) >= 2


def _around(text: str, place: int) -> str:
    return printable(text[max(place - SHOWN // 2, 0) : place + SHOWN // 2], SHOWN)


def _word_at(text: str, place: int) -> str:
    return text[place : place + 24].split(maxsplit=1)[0]
