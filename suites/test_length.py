"""Lengths: answers that are empty, end far too early, or run on where the baseline's came to an end."""

from __future__ import annotations

import pytest

import pytest_kvcache as kv


@pytest.mark.kv_smoke
@pytest.mark.kv_sensitive(prompts=["smoke", "smoke-penalised"])
def test_length(kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits) -> None:
    _within(kv_limits, kv_outputs, kv_baseline)


@pytest.mark.kv_smoke
@pytest.mark.kv_sensitive(prompts="smoke-short")
def test_short_answers(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    _skip_without_ends(kv_baseline)
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
    _skip_without_ends(kv_baseline)
    _within(kv_limits, kv_outputs, kv_baseline)


def _skip_without_ends(baseline: kv.PlannedOutputs) -> None:
    """Only beside an answer that ends is another judged, and of too few no loss could be proven."""
    cut = [output.finish_reason == "length" for each in baseline.sets for output in each.outputs]
    if 2 * sum(cut) > len(cut):
        pytest.skip(f"{sum(cut)} of the baseline's {len(cut)} answers do not end within their tokens")


def _within(limits: kv.Limits, outputs: kv.PlannedOutputs, baseline: kv.PlannedOutputs) -> None:
    kv.assert_lengths_within(
        outputs,
        baseline,
        empty=limits.empty_excess,
        early_end=limits.early_end_excess,
        runaway=limits.runaway_excess,
    )
