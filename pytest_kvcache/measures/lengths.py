"""Lengths: outputs that run away, end early or were cut off, beside another one for the same prompt.

Many lengths are right for a prompt, so only ratios count that no rephrasing explains.
"""

from __future__ import annotations

from pytest_kvcache.measures.views import Outputlike, View, view_output
from pytest_kvcache.records import Output

RUNAWAY_RATIO = 2
RUNAWAY_TOKENS = 64
"""A run-away output is at least so many times, and so many tokens, longer than the baseline's."""
EARLY_RATIO = 8
EARLY_BASELINE_TOKENS = 64
"""An early end is judged beside a baseline of at least so many tokens."""


def ran_away(output: Outputlike, *, beside: Outputlike) -> bool:
    """Whether ``output`` ran away in length where the other one, for the same prompt, came to an end."""
    return view_ran_away(view_output(output), view_output(beside, "beside"))


def could_run_away(output: Output, *, max_tokens: int) -> bool:
    """Whether beside ``output`` another one of at most ``max_tokens`` could be seen to run away."""
    seen = view_output(output)
    return seen.finish_reason != "length" and max_tokens >= _runs_away_from(seen)


def cut_short(output: Output, *, beside: Outputlike, max_tokens: int) -> bool:
    """Whether ``output`` ended far earlier than the other one, or was cut off before ``max_tokens``.

    Empty outputs are neither.
    """
    seen = view_output(output)
    if seen.is_empty:
        return False
    cut_off = output.finish_reason in ("length", "abort") and len(output.token_ids) < max_tokens
    return cut_off or view_ended_early(seen, view_output(beside, "beside"))


def view_ran_away(seen: View, beside: View) -> bool:
    """As `ran_away`, of views."""
    return (
        seen.finish_reason != "stop"
        and beside.finish_reason != "length"
        and seen.size >= _runs_away_from(beside)
    )


def view_ended_early(seen: View, beside: View) -> bool:
    """Whether an output ended by itself at an eighth of the other one's length, or sooner."""
    return (
        seen.finish_reason != "length"
        and beside.size >= EARLY_BASELINE_TOKENS
        and seen.size * EARLY_RATIO <= beside.size
    )


def _runs_away_from(beside: View) -> float:
    """Return the tokens from which on an output is too long beside this one."""
    return max(RUNAWAY_RATIO * beside.size, beside.size + RUNAWAY_TOKENS)
