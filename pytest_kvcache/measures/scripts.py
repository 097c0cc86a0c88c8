"""Scripts: running text that changes its script, over and over or for good.

*Mixed scripts*: words of three scripts and more in turn, without punctuation. Lists of languages,
glossaries and tables have commas, brackets or line breaks between scripts; running text of two scripts
(Chinese with Latin names, Serbian in both of its scripts) has a third now and then, not in turn.

*Flip*: nearly all letters before one place belong to one script, nearly all after it to another. Only
where a line runs on through that place is it a proof. After a line break or punctuation the rest may be
a translation or a quotation: that is a warning, and the baseline's output tells.

Both look at scripts alone: languages of one script are not told apart. A flip is missed where either
side has more than a tenth of other letters, as Chinese full of Latin names has.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pytest_kvcache.measures.characters import COMMON, HAN, HANGUL, SCRIPTS, Characters, Switches
from pytest_kvcache.records import Signal
from pytest_kvcache.text import printable

MIXED_SWITCHES = 16
"""Changes of script, one after the other, ..."""
MIXED_WITHIN = 400
"""... within so many characters, ..."""
MIXED_TURNS = 5
"""... and this many of them leading beyond the two commonest scripts, are a proof."""
MIXED_STEP = 4
"""Changes from one stretch that is looked at to the next."""
FLIP_PURITY = 0.9
"""Share of the letters on either side of a flip that belong to that side's script."""
FLIP_LETTERS = 60
"""Letters that either side has at least; a letter of :data:`DENSE` scripts counts as three."""
RUNNING = 20
"""Characters on either side of a flip that must be of one script in one line, for a proof."""
DENSE = (HAN, HANGUL)
ENDS = 120
"""Characters at the beginning and the end of a text that are compared first."""
SHOWN = 24
"""Characters around the place that evidence shows."""

_WEIGHTS = np.ones(len(SCRIPTS), np.int64)
_WEIGHTS[COMMON] = 0
_WEIGHTS[list(DENSE)] = 3


def find_mixed_scripts(characters: Characters) -> list[Signal]:
    """Return at most one signal: from the first to the last place where scripts alternate without end."""
    if characters.is_latin or np.count_nonzero(characters.letters[1:]) < 3:
        return []
    switches = characters.switches
    last = switches.place.size - MIXED_SWITCHES
    if last < 0:
        return []
    near = switches.place[MIXED_SWITCHES - 1 :] - switches.place[: last + 1] <= MIXED_WITHIN
    windows = np.flatnonzero(near)[::MIXED_STEP].tolist()
    first = next((at for at in windows if _turns_to_others(switches, at) >= MIXED_TURNS), None)
    if first is None:
        return []
    final = next(at for at in reversed(windows) if _turns_to_others(switches, at) >= MIXED_TURNS)
    start, end = int(switches.place[first]), int(switches.place[final + MIXED_SWITCHES - 1])
    return [Signal("mixed-scripts", "fail", "char", start, end, _mixture(characters, start, end))]


def find_script_flips(characters: Characters) -> list[Signal]:
    """Return at most one signal: the rest of the text, if it goes on in another script for good."""
    if characters.is_latin:
        return []
    before, after = (_main_script(part) for part in (characters.scripts[:ENDS], characters.scripts[-ENDS:]))
    if before == after:
        return []
    found = characters.segments
    size = (found.end - found.start) * _WEIGHTS[found.script]
    ahead = np.cumsum(np.where(found.script == before, size, np.where(found.script == after, -size, 0)))
    at = int(ahead.argmax()) + 1
    if at == size.size or not all(
        _is_pure(size[side], found.script[side] == script)
        for script, side in ((before, slice(at)), (after, slice(at, None)))
    ):
        return []
    place = int(found.start[at])
    severity: Literal["fail", "warn"] = "fail" if _is_running(characters, place) else "warn"
    around = printable(characters.text[max(place - SHOWN // 2, 0) : place + SHOWN // 2], SHOWN)
    evidence = f'from {SCRIPTS[before]} to {SCRIPTS[after]} for good: "{around}"'
    return [Signal("script-flip", severity, "char", place, len(characters.text), evidence)]


def _main_script(scripts: NDArray[np.uint8]) -> int:
    return int((np.bincount(scripts, minlength=len(SCRIPTS)) * _WEIGHTS).argmax())


def _turns_to_others(switches: Switches, first: int) -> int:
    """Return how many of :data:`MIXED_SWITCHES` changes lead to none of their two commonest scripts."""
    turns = Counter(switches.after[first : first + MIXED_SWITCHES].tolist())
    return MIXED_SWITCHES - sum(count for _, count in turns.most_common(2))


def _is_pure(size: NDArray[np.int64], own: NDArray[np.bool_]) -> bool:
    of_script = size[own].sum()
    return bool(of_script >= FLIP_LETTERS and of_script >= FLIP_PURITY * size.sum())


def _is_running(characters: Characters, place: int) -> bool:
    """Whether the text runs on at a flip: in one line, of one script before and another after it."""
    before, after = slice(max(place - RUNNING, 0), place), slice(place, place + RUNNING)
    return (
        place in characters.switches.place
        and "\n" not in characters.text[before.start : after.stop]
        and all(np.count_nonzero(np.bincount(characters.scripts[side])[1:]) == 1 for side in (before, after))
    )


def _mixture(characters: Characters, start: int, end: int) -> str:
    names = [SCRIPTS[script] for script in np.unique(characters.scripts[start:end]) if script != COMMON]
    return f'{", ".join(names)} mixed: "{printable(characters.text[start : start + SHOWN], SHOWN)}"'
