"""Drift: whether more of the outputs change the language or leave the topic than of the baseline's."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_kvcache.assertions.arguments import misuse_of
from pytest_kvcache.assertions.excesses import Found, Pair, Sets, check_excesses, free_pairs
from pytest_kvcache.measures.degeneration import FLIPS, find_in_pair
from pytest_kvcache.measures.drift import has_left_language, has_left_topic
from pytest_kvcache.measures.language import can_identify
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import Signal


def assert_language_kept(
    output: Sets, baseline: Sets, *, margin: float = Limits().language_drift_excess
) -> None:
    """Fail if more outputs are in another language, or change it in between, than of the baseline's.

    Another language is one that is neither the prompt's nor that of the other side's output; a prompt that
    asks for a translation may have any. Fails if the paired difference of the two shares lies beyond
    ``margin`` (0 to 1) with its 95 % interval, and for too little evidence where the baseline keeps it in so
    few outputs that not even the drift of all would be proven to be. Sets of tasks do not count. Raises
    :class:`~pytest_kvcache.errors.UsageError` without the extra ``language``, for what is no set of outputs,
    for outputs of other prompts, and for fewer than two.
    """
    __tracebackhide__ = True
    with misuse_of("assert_language_kept"):
        if not can_identify():
            raise ValueError("languages cannot be told apart: install the extra pytest-kvcache[language]")
        found = [_language(pair) for pair in free_pairs(output, baseline)]
        check_excesses({"language_drift_excess": found}, {"language_drift_excess": margin})


def assert_topic_kept(output: Sets, baseline: Sets, *, margin: float = Limits().topic_drift_excess) -> None:
    """Fail if more outputs leave the topic of their prompts than of the baseline's.

    An output leaves it that shares no content word with its prompt, or whose latter half shares less than a
    tenth of its own with the prompt and the other side's output.
    Fails if the paired difference of the two shares lies beyond ``margin`` (0 to 1) with its 95 % interval,
    and for too little evidence where the baseline keeps it in so few outputs that not even the drift of all
    would be proven to be. Sets of tasks do not count. Raises :class:`~pytest_kvcache.errors.UsageError` for
    what is no set of outputs, for outputs of other prompts, and for fewer than two.
    """
    __tracebackhide__ = True
    with misuse_of("assert_topic_kept"):
        found = [_topic(pair) for pair in free_pairs(output, baseline)]
        check_excesses({"topic_drift_excess": found}, {"topic_drift_excess": margin})


def _language(pair: Pair) -> Found:
    prompt, ours, theirs = pair.prompt.content, pair.ours.text, pair.theirs.text
    candidates, baselines = find_in_pair(pair.ours, pair.theirs, prompt=pair.prompt)
    return Found(
        pair,
        _flips(candidates.beside) or has_left_language(ours, prompt=prompt, beside=theirs),
        _flips(baselines.beside) or has_left_language(theirs, prompt=prompt, beside=ours),
    )


def _flips(signals: Sequence[Signal]) -> bool:
    return any(signal.kind in FLIPS for signal in signals)


def _topic(pair: Pair) -> Found:
    prompt, ours, theirs = pair.prompt.content, pair.ours.text, pair.theirs.text
    return Found(
        pair,
        has_left_topic(ours, prompt=prompt, beside=theirs),
        has_left_topic(theirs, prompt=prompt, beside=ours),
    )
