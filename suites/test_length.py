"""Lengths: answers that are empty, end far too early, or run on where the baseline's came to an end."""

from __future__ import annotations

import pytest

import pytest_kvcache as kv
from pytest_kvcache.measures.lengths import could_run_away
from pytest_kvcache.measures.power import can_show_excess


@pytest.mark.kv_smoke
@pytest.mark.kv_sensitive(prompts=["smoke", "smoke-penalised"])
def test_length(kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits) -> None:
    _within(kv_limits, kv_outputs, kv_baseline)


@pytest.mark.kv_smoke
@pytest.mark.kv_sensitive(prompts="smoke-short")
def test_short_answers(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    _skip_without_room(kv_limits, kv_baseline)
    _within(kv_limits, kv_outputs, kv_baseline)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts=["full", "full-penalised", "full-frequency"])
def test_length_full(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    _within(kv_limits, kv_outputs, kv_baseline)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts="smoke-short")
def test_short_answers_full(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    _skip_without_room(kv_limits, kv_baseline)
    _within(kv_limits, kv_outputs, kv_baseline)


def _skip_without_room(limits: kv.Limits, baseline: kv.PlannedOutputs) -> None:
    """Only beside an answer that ends, and well before the tokens do, can another be seen to run away."""
    room = [
        could_run_away(output, max_tokens=each.prompt_set.sampling.max_tokens)
        for each in baseline.sets
        for output in each.outputs
    ]
    margin = limits.runaway_excess
    if not can_show_excess([not each for each in room], margin):
        tokens = baseline.sets[0].prompt_set.sampling.max_tokens
        pytest.skip(
            f"a run-away of {tokens} tokens could show beside {sum(room)} of the baseline's {len(room)} "
            f"answers, too few to prove an excess beyond {margin:.2f}: give more tokens (--kv-max-tokens)"
        )


def _within(limits: kv.Limits, outputs: kv.PlannedOutputs, baseline: kv.PlannedOutputs) -> None:
    kv.assert_lengths_within(
        outputs,
        baseline,
        empty=limits.empty_excess,
        early_end=limits.early_end_excess,
        runaway=limits.runaway_excess,
    )
