"""Nonsense: whether more of the outputs are no language than of the baseline's."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_kvcache.assertions.arguments import misuse_of
from pytest_kvcache.assertions.excesses import Found, Pair, Sets, check_excesses, free_pairs
from pytest_kvcache.assertions.messages import finding
from pytest_kvcache.measures.degeneration import NONSENSE, find_in_pair
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import Signal


def assert_nonsense_within(output: Sets, baseline: Sets, *, margin: float = Limits().nonsense_excess) -> None:
    """Fail if more outputs are soup, mixed scripts, stray or broken characters than of the baseline's.

    An output counts with any such signal, proof or warning, that neither its prompt nor the other side's
    output shows as well. Fails if the paired difference of the two shares lies beyond ``margin`` (0 to 1)
    with its 95 % interval, and for too little evidence where the baseline leaves so few outputs free of
    nonsense that not even that of all would be proven to be. Sets of tasks do not count. Raises
    :class:`~pytest_kvcache.errors.UsageError` for what is no set of outputs, for outputs of other prompts,
    and for fewer than two.
    """
    __tracebackhide__ = True
    with misuse_of("assert_nonsense_within"):
        found = [_found(pair) for pair in free_pairs(output, baseline)]
        check_excesses({"nonsense_excess": found}, {"nonsense_excess": margin})


def _found(pair: Pair) -> Found:
    ours, theirs = find_in_pair(pair.ours, pair.theirs, prompt=pair.prompt)
    nonsense = _nonsense(ours.beside)
    seen = finding(pair.ours, nonsense[0]) if nonsense else None
    return Found(pair, bool(nonsense), bool(_nonsense(theirs.beside)), seen)


def _nonsense(signals: Sequence[Signal]) -> list[Signal]:
    return [signal for signal in signals if signal.kind in NONSENSE]
