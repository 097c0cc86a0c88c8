"""Loops: exact repetition that no healthy text holds, with the text that shows it.

Two rules, each on tokens and on characters. *Anywhere*: at least 64 tokens (256 bytes of text) in at
least 4 copies. *At the end*, where an output that was cut off is still looping: at least 24 tokens (96
bytes) in 4 copies, or 48 tokens (192 bytes) in 2.5, or 40 times the same character.

Decoration is no loop: rules, dot leaders, table borders and indentation, up to a screen's width and
some. What a model gets stuck on (``!!!!``, newlines) is no decoration.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from pytest_kvcache.measures.runs import Run, find_runs, find_tails, least_rotation, sequence_of_ids
from pytest_kvcache.measures.views import BYTES_PER_TOKEN, View
from pytest_kvcache.records import Signal
from pytest_kvcache.text import printable

TOKENS_ANYWHERE = 64
TOKENS_AT_END_IN_4_COPIES = 24
TOKENS_AT_END_IN_2_5_COPIES = 48
SAME_CHARACTER_AT_END = 40
DECORATION = 256
"""Characters up to which repeated decoration is healthy. The longest in 25,000 healthy documents: 146."""
UNIT_SHOWN = 40
"""Characters of the repeated unit that evidence shows."""

_STUCK = frozenset("!?,;，。！？；…\ufffd\0")
"""No letters or digits, but no decoration either."""


@dataclass(frozen=True, slots=True)
class Loop:
    """A run that is a finding, in the characters or, where no text shows it, the tokens of an output."""

    run: Run
    in_text: bool
    unit: str
    """One copy: text, or token ids as a sequence (see :mod:`~pytest_kvcache.measures.runs`)."""

    def signal(self) -> Signal:
        return Signal(
            kind="stuck" if self.run.period == 1 else "loop",
            severity="fail",
            unit="char" if self.in_text else "token",
            start=self.run.start,
            end=self.run.end,
            evidence=f"{self._shown()} {_times(self.run.copies)}",
        )

    @property
    def key(self) -> tuple[bool, str]:
        """Equal for loops of the same unit, wherever in it they begin."""
        return self.in_text, least_rotation(self.unit)

    def _shown(self) -> str:
        if self.in_text:
            return f'"{printable(self.unit, UNIT_SHOWN)}"'
        ids = " ".join(str(ord(char)) for char in self.unit[:UNIT_SHOWN])
        return f"{'token' if len(self.unit) == 1 else 'tokens'} {printable(ids, UNIT_SHOWN)}"


def find_loops(view: View) -> list[Loop]:
    """Return the loops of an output in the order of their places, none inside another."""
    loops = [] if view.text is None else _loops_in_text(view.text)
    if view.ids is not None:
        loops += _loops_in_tokens(sequence_of_ids(view.ids), view.text or "")
    return _outermost(loops)


def _loops_in_text(text: str) -> list[Loop]:
    shortest = TOKENS_ANYWHERE  # a character has up to 4 bytes, as many as stand for a token
    return [
        Loop(run, True, run.unit(text))
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
        shown = _shown_by(run, longest)
        if shown is None:
            loops.append(Loop(run, False, run.unit(sequence)))
        elif not _is_decoration(shown.unit(text), shown.length):
            loops.append(Loop(shown, True, shown.unit(text)))
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
    return same_character or _breaks_a_rule(tokens, run.copies, at_end)


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
    if length > DECORATION or not unit.strip("\n"):
        return False
    return not any(char.isalnum() or char in _STUCK for char in unit)


def _outermost(loops: Iterable[Loop]) -> list[Loop]:
    """Drop loops inside others of the same kind of place, and doubles."""
    kept: list[Loop] = []
    reach = {True: -1, False: -1}
    for loop in sorted(loops, key=lambda loop: (loop.run.start, -loop.run.end)):
        if loop.run.end > reach[loop.in_text]:
            kept.append(loop)
            reach[loop.in_text] = loop.run.end
    return kept


def _times(copies: float) -> str:
    return f"{copies:.1f} times" if copies < 4 else f"{int(copies)} times"
