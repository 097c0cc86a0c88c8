"""Loops: exact repetition that no healthy text holds, with the text that shows it.

Two rules, each on tokens and on characters. *Anywhere*: at least 64 tokens (256 bytes of text) in at
least 4 copies. *At the end*, where an output that was cut off is still looping: at least 24 tokens (96
bytes) in 4 copies, or 48 tokens (192 bytes) in 2.5, or 40 times the same character.

Up to the same length, numbers and signs without a word are suspicious but no proof: columns of tables
repeat so. Within an output, lines of code or data must come six times.

Decoration is no loop: rules, dot leaders, table borders and indentation, up to a screen's width and
some. What a model gets stuck on (``!!!!``, newlines) is no decoration.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pytest_kvcache.measures.runs import Run, find_runs, find_tails, least_rotation, sequence_of_ids
from pytest_kvcache.measures.views import BYTES_PER_TOKEN, UNSPACED, View
from pytest_kvcache.records import Signal
from pytest_kvcache.text import printable

TOKENS_ANYWHERE = 64
TOKENS_AT_END_IN_4_COPIES = 24
TOKENS_AT_END_IN_2_5_COPIES = 48
SAME_CHARACTER_AT_END = 40
DECORATION = 256
"""Characters up to which repeated decoration is healthy. The longest in 25,000 healthy documents: 146."""
COPIES_IN_CODE = 6
PROSE_SIGNS = 0.15
"""Units with more signs and digits than in prose go on in code for some lines, to end again."""
UNIT_SHOWN = 40
"""Characters of the repeated unit that evidence shows."""
ALIKE = 0.6
"""Share of their words that two inexact loops have in common if they are about the same."""

_WORD = re.compile(rf"[{UNSPACED}]|[^\W\d_]{{3}}")
_STUCK = frozenset("!?,;，。！？；…\ufffd\0")
"""No letters or digits, but no decoration either."""


@dataclass(frozen=True)
class Loop:
    """A repetition that is a finding, in the characters or, where no text shows it, the tokens."""

    kind: Literal["loop", "stuck", "near-loop"]
    severity: Literal["fail", "warn"]
    in_text: bool
    start: int
    end: int
    copies: float
    unit: str
    """One copy: text, or token ids as a sequence (see :mod:`~pytest_kvcache.measures.runs`)."""
    evidence: str

    @cached_property
    def rotation(self) -> str:
        """The unit from the same place on, wherever in it the loop begins."""
        return least_rotation(self.unit)

    def signal(self) -> Signal:
        unit: Literal["char", "token"] = "char" if self.in_text else "token"
        return Signal(self.kind, self.severity, unit, self.start, self.end, self.evidence)

    def overlaps(self, other: Loop) -> bool:
        return self.in_text == other.in_text and self.start < other.end and other.start < self.end

    def resembles(self, other: Loop) -> bool:
        """Whether both repeat the same unit, wherever in it they begin; or about the same words, if either
        does so inexactly."""
        if self.in_text != other.in_text:
            return False
        if "near-loop" not in (self.kind, other.kind):
            return self.rotation == other.rotation
        ours, theirs = (set(each.unit.split() if each.in_text else each.unit) for each in (self, other))
        return len(ours & theirs) >= ALIKE * len(ours | theirs)


def find_loops(view: View) -> list[Loop]:
    """Return the loops of an output in the order of their places, none inside another."""
    loops = [] if view.text is None else _loops_in_text(view.text)
    if view.ids is not None:
        loops += _loops_in_tokens(sequence_of_ids(view.ids), view.text or "")
    return _outermost(loops)


def shown(unit: str, in_text: bool, copies: float) -> str:
    """Return for people what is repeated, and how often."""
    times = f"{copies:.1f} times" if copies < 4 else f"{int(copies)} times"
    if in_text:
        return f'"{printable(unit, UNIT_SHOWN)}" {times}'
    ids = " ".join(str(ord(char)) for char in unit[:UNIT_SHOWN])
    return f"{'token' if len(unit) == 1 else 'tokens'} {printable(ids, UNIT_SHOWN)} {times}"


def _is_of_a_table(unit: str) -> bool:
    """Whether a unit is numbers and signs without a word: columns of tables repeat so."""
    if _WORD.search(unit):
        return False
    if any(char.isalnum() for char in unit):
        return any(not char.isalpha() and not char.isspace() for char in unit)
    return bool(unit.strip()) and not any(char in _STUCK for char in unit)


def _goes_on(run: Run, text: str) -> bool:
    """Whether a run is a few lines of code or data that end again."""
    unit = run.unit(text)
    signs = sum(not char.isalpha() and not char.isspace() for char in unit)
    return run.end < len(text) and run.copies < COPIES_IN_CODE and signs > PROSE_SIGNS * len(unit)


def _exact(run: Run, sequence: str, in_text: bool) -> Loop:
    unit = run.unit(sequence)
    return Loop(
        kind="stuck" if run.period == 1 else "loop",
        severity="warn" if in_text and run.length <= DECORATION and _is_of_a_table(unit) else "fail",
        in_text=in_text,
        start=run.start,
        end=run.end,
        copies=run.copies,
        unit=unit,
        evidence=shown(unit, in_text, run.copies),
    )


def _loops_in_text(text: str) -> list[Loop]:
    shortest = TOKENS_ANYWHERE  # a character has up to 4 bytes, as many as stand for a token
    return [
        _exact(run, text, in_text=True)
        for run in _runs(text, shortest)
        if not _is_decoration(run.unit(text), run.length) and _breaks_a_text_rule(run, text)
    ]


def _loops_in_tokens(sequence: str, text: str) -> list[Loop]:
    """Return the loops among token ids: where the text shows them, as loops of the text."""
    runs = [
        run
        for run in _runs(sequence, TOKENS_ANYWHERE)
        if _breaks_a_rule(run.length, run.copies, run.end == len(sequence))
    ]
    longest = _longest_by_copies(_runs(text, TOKENS_AT_END_IN_4_COPIES)) if runs else []
    loops = []
    for run in runs:
        in_text = _shown_by(run, longest)
        if in_text is None:
            loops.append(_exact(run, sequence, in_text=False))
        elif not _is_decoration(in_text.unit(text), in_text.length) and not _goes_on(in_text, text):
            loops.append(_exact(in_text, text, in_text=True))
    return loops


def _runs(sequence: str, shortest_anywhere: int) -> list[Run]:
    return [
        *find_runs(sequence, min_length=shortest_anywhere),
        *find_tails(sequence, min_length=TOKENS_AT_END_IN_4_COPIES, min_copies=2.5),
    ]


def _breaks_a_text_rule(run: Run, text: str) -> bool:
    at_end = run.end == len(text)
    tokens = run.copies * len(run.unit(text).encode(errors="surrogatepass")) / BYTES_PER_TOKEN
    same_character = at_end and run.period == 1 and run.length >= SAME_CHARACTER_AT_END
    return same_character or (_breaks_a_rule(tokens, run.copies, at_end) and not _goes_on(run, text))


def _breaks_a_rule(tokens: float, copies: float, at_end: bool) -> bool:
    if copies >= 4 and tokens >= (TOKENS_AT_END_IN_4_COPIES if at_end else TOKENS_ANYWHERE):
        return True
    return at_end and copies >= 2.5 and tokens >= TOKENS_AT_END_IN_2_5_COPIES


def _longest_by_copies(runs: list[Run]) -> list[Run]:
    """Return the runs that no other surpasses in copies and length both, most copies first."""
    longest: list[Run] = []
    for run in sorted(runs, key=lambda run: (-run.copies, -run.length)):
        if not longest or run.length > longest[-1].length:
            longest.append(run)
    return longest


def _shown_by(run: Run, longest: list[Run]) -> Run | None:
    """Return the longest run of the text that has the copies of a run of tokens, and characters enough."""
    enough = bisect_left(longest, 1 - run.copies, key=lambda shown: -shown.copies)
    if enough == 0 or longest[enough - 1].length * BYTES_PER_TOKEN < run.length:
        return None
    return longest[enough - 1]


def _is_decoration(unit: str, length: int) -> bool:
    if length > DECORATION or ("\n" in unit and unit.strip()) or not unit.strip("\n"):
        return False
    return not any(char.isalnum() or char in _STUCK for char in unit)


def _outermost(loops: Iterable[Loop]) -> list[Loop]:
    """Drop loops inside others of the same kind of place, and doubles."""
    kept: list[Loop] = []
    reach = {True: -1, False: -1}
    for loop in sorted(loops, key=lambda loop: (loop.start, -loop.end)):
        if loop.end > reach[loop.in_text]:
            kept.append(loop)
            reach[loop.in_text] = loop.end
    return kept
