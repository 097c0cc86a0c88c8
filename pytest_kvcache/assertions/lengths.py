"""Lengths: whether more of the outputs are empty, cut short, or run away than of the baseline's."""

from __future__ import annotations

from pytest_kvcache.assertions.arguments import misuse_of
from pytest_kvcache.assertions.excesses import Found, Pair, Sets, check_excesses, free_pairs
from pytest_kvcache.measures.degeneration import is_empty
from pytest_kvcache.measures.lengths import cut_short, ran_away
from pytest_kvcache.policy import Limits

_DEFAULTS = Limits()


def assert_lengths_within(
    output: Sets,
    baseline: Sets,
    *,
    empty: float = _DEFAULTS.empty_excess,
    early_end: float = _DEFAULTS.early_end_excess,
    runaway: float = _DEFAULTS.runaway_excess,
) -> None:
    """Fail if more outputs are empty, cut short, or run away than of the baseline's.

    Cut short is what ends by itself at an eighth of the other side's length, or is cut off before
    ``max_tokens``; run away what is cut off at twice the length at which the other side's came to an end.
    Each of the three fails if the paired difference of its two shares lies beyond its margin (0 to 1) with
    its 95 % interval, and for too little evidence if of so few outputs not even all would be proven to be.
    Sets of tasks do not count. Raises :class:`~pytest_kvcache.errors.UsageError` for what
    is no set of outputs, for outputs of other prompts, and for fewer than two.
    """
    __tracebackhide__ = True
    with misuse_of("assert_lengths_within"):
        pairs = free_pairs(output, baseline)
        found = {
            "empty_excess": [_empty(pair) for pair in pairs],
            "early_end_excess": [_cut_short(pair) for pair in pairs],
            "runaway_excess": [_ran_away(pair) for pair in pairs],
        }
        margins = {"empty_excess": empty, "early_end_excess": early_end, "runaway_excess": runaway}
        check_excesses(found, margins, relative=("early_end_excess", "runaway_excess"))


def _empty(pair: Pair) -> Found:
    return Found(pair, is_empty(pair.ours), is_empty(pair.theirs), _told(pair))


def _cut_short(pair: Pair) -> Found:
    most = pair.of.prompt_set.sampling.max_tokens
    return Found(
        pair,
        cut_short(pair.ours, beside=pair.theirs, max_tokens=most),
        cut_short(pair.theirs, beside=pair.ours, max_tokens=most),
        _told(pair),
    )


def _ran_away(pair: Pair) -> Found:
    ours, theirs = pair.ours, pair.theirs
    return Found(pair, ran_away(ours, beside=theirs), ran_away(theirs, beside=ours), _told(pair))


def _told(pair: Pair) -> str:
    return f"{len(pair.ours.token_ids)} tokens, the baseline's {len(pair.theirs.token_ids)}"
