"""Degeneration: what is wrong with one output, and how one can see it.

Signals are ``fail`` where the one output suffices as proof, else ``warn``. What the prompt asked for, or
the baseline's output does as well, is no finding.

========== ======== ==============================================================================
kind       severity finding
========== ======== ==============================================================================
loop       fail     a unit of several tokens or characters repeated exactly
stuck      fail     one token or character repeated
empty      fail     nothing to read, unless the baseline's output is empty as well
early-end  warn     ended by itself at an eighth of the baseline's length, or sooner
runaway    warn     cut off at twice the length at which the baseline ended by itself, or later
========== ======== ==============================================================================
"""

from __future__ import annotations

import re

from pytest_kvcache.measures.loops import Loop, find_loops
from pytest_kvcache.measures.runs import sequence_of_ids
from pytest_kvcache.measures.views import Outputlike, Promptlike, View, view_output, view_prompt
from pytest_kvcache.records import Signal

RUNAWAY_RATIO = 2
RUNAWAY_TOKENS = 64
"""A run-away output is at least so many times, and so many tokens, longer than the baseline's."""
EARLY_RATIO = 8
EARLY_BASELINE_TOKENS = 64
"""An early end is judged beside a baseline of at least so many tokens."""

_ASKS_TO_REPEAT = re.compile(
    r"\brepeat|\btimes\b|\bagain and again|\bover and over|重复|重複|[遍次]", re.IGNORECASE
)
_NUMBER = re.compile(r"\d+")


def find_degeneration(
    output: Outputlike, *, prompt: Promptlike | None = None, baseline: Outputlike | None = None
) -> list[Signal]:
    """Return the signals of degeneration in one output, in the order of their places.

    ``output`` and ``baseline`` (what the baseline wrote for the same prompt) may be an
    :class:`~pytest_kvcache.records.Output`, a text, or token ids. An ``Output`` is judged on both, and
    a loop that its text shows is reported once, in characters. Takes time linear in the length, up to
    a logarithmic factor, on any input.
    """
    seen = view_output(output)
    beside = None if baseline is None else view_output(baseline)
    asked = None if prompt is None else view_prompt(prompt)
    loops = find_loops(seen)
    known = {loop.key for loop in find_loops(beside)} if loops and beside is not None else set()
    return [
        *_empty(seen, beside),
        *(loop.signal() for loop in loops if loop.key not in known and not _is_asked_for(loop, asked)),
        *_length(seen, beside),
    ]


def ran_away(output: Outputlike, *, beside: Outputlike) -> bool:
    """Whether ``output`` ran away in length where the other one, for the same prompt, came to an end."""
    return _ran_away(view_output(output), view_output(beside))


def _empty(seen: View, beside: View | None) -> list[Signal]:
    if not seen.is_empty or (beside is not None and beside.is_empty):
        return []
    length = len(seen.text or "")
    tokens = "" if seen.ids is None else f" in {len(seen.ids)} tokens"
    return [Signal("empty", "fail", "char", 0, length, f"no text{tokens}")]


def _length(seen: View, beside: View | None) -> list[Signal]:
    if beside is None or seen.is_empty:
        return []
    lengths = f"about {seen.size:.0f} tokens, the baseline {beside.size:.0f}"
    if _ran_away(seen, beside):
        return [_about_length("runaway", seen, lengths)]
    if _ended_early(seen, beside):
        return [_about_length("early-end", seen, lengths)]
    return []


def _ran_away(seen: View, beside: View) -> bool:
    return (
        seen.finish_reason != "stop"
        and beside.finish_reason != "length"
        and seen.size >= RUNAWAY_RATIO * beside.size
        and seen.size >= beside.size + RUNAWAY_TOKENS
    )


def _ended_early(seen: View, beside: View) -> bool:
    return (
        seen.finish_reason != "length"
        and beside.size >= EARLY_BASELINE_TOKENS
        and seen.size * EARLY_RATIO <= beside.size
    )


def _about_length(kind: str, seen: View, evidence: str) -> Signal:
    if seen.text is not None:
        return Signal(kind, "warn", "char", 0, len(seen.text), evidence)
    return Signal(kind, "warn", "token", 0, len(seen.ids or ()), evidence)


def _is_asked_for(loop: Loop, asked: View | None) -> bool:
    return asked is not None and (_is_quoted(loop, asked) or _is_ordered(loop, asked))


def _is_quoted(loop: Loop, asked: View) -> bool:
    """Whether the prompt itself repeats the unit."""
    twice = loop.unit + loop.unit
    if loop.in_text:
        return asked.text is not None and twice in asked.text
    return asked.ids is not None and twice in sequence_of_ids(asked.ids)


def _is_ordered(loop: Loop, asked: View) -> bool:
    """Whether the prompt names the unit and says to repeat it, and no more often than it says."""
    if not loop.in_text or asked.text is None or not _ASKS_TO_REPEAT.search(asked.text):
        return False
    numbers = [int(number) for number in _NUMBER.findall(asked.text)[:100] if len(number) < 10]
    return _named(loop.unit, asked.text) and (not numbers or loop.run.copies <= 1.2 * max(numbers) + 1)


def _named(unit: str, text: str) -> bool:
    bare = _bare(unit)
    return bool(bare) and bare in _bare(text)


def _bare(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())
