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

from pytest_kvcache.measures.asked import Asked
from pytest_kvcache.measures.loops import Loop, find_loops
from pytest_kvcache.measures.views import Outputlike, Promptlike, View, view_output, view_prompt
from pytest_kvcache.records import Signal

RUNAWAY_RATIO = 2
RUNAWAY_TOKENS = 64
"""A run-away output is at least so many times, and so many tokens, longer than the baseline's."""
EARLY_RATIO = 8
EARLY_BASELINE_TOKENS = 64
"""An early end is judged beside a baseline of at least so many tokens."""


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
    loops = _unexcused(find_loops(seen), asked, beside)
    return [*_empty(seen, beside), *(loop.signal() for loop in loops), *_length(seen, beside)]


def ran_away(output: Outputlike, *, beside: Outputlike) -> bool:
    """Whether ``output`` ran away in length where the other one, for the same prompt, came to an end."""
    return _ran_away(view_output(output), view_output(beside))


def _unexcused(loops: list[Loop], asked: View | None, beside: View | None) -> list[Loop]:
    if loops and beside is not None:
        known = {loop.key for loop in find_loops(beside)}
        loops = [loop for loop in loops if loop.key not in known]
    if loops and asked is not None:
        wish = Asked(asked)
        loops = [loop for loop in loops if not wish.excuses(loop)]
    return loops


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
