"""Lengths: answers that are empty, end far too early, or run on where the baseline's came to an end."""

from __future__ import annotations

import pytest

import pytest_kvcache as kv


@pytest.mark.kv_smoke
@pytest.mark.kv_sensitive(prompts=["smoke", "smoke-penalised"])
def test_length(kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits) -> None:
    kv.assert_lengths_within(
        kv_outputs,
        kv_baseline,
        empty=kv_limits.empty_excess,
        early_end=kv_limits.early_end_excess,
        runaway=kv_limits.runaway_excess,
    )


@pytest.mark.kv_smoke
@pytest.mark.kv_sensitive(prompts="smoke-short")
def test_short_answers(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    kv.assert_lengths_within(
        kv_outputs,
        kv_baseline,
        empty=kv_limits.empty_excess,
        early_end=kv_limits.early_end_excess,
        runaway=kv_limits.runaway_excess,
    )


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts=["full", "full-penalised", "full-frequency"])
def test_length_full(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    kv.assert_lengths_within(
        kv_outputs,
        kv_baseline,
        empty=kv_limits.empty_excess,
        early_end=kv_limits.early_end_excess,
        runaway=kv_limits.runaway_excess,
    )
