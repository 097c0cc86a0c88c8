"""Repetition loops, stuck tokens and empty answers, beside the baseline: small models loop by themselves."""

from __future__ import annotations

import pytest

import pytest_kvcache as kv


@pytest.mark.kv_smoke
@pytest.mark.kv_sensitive(prompts=["smoke", "smoke-penalised"])
def test_degeneration(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    _within(kv_limits, kv_outputs, kv_baseline)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts=["full", "full-penalised", "full-frequency"])
def test_degeneration_full(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    _within(kv_limits, kv_outputs, kv_baseline)


def _within(limits: kv.Limits, outputs: kv.PlannedOutputs, baseline: kv.PlannedOutputs) -> None:
    kv.assert_degeneration_within(
        outputs, baseline, margin=limits.degenerate_excess, empty=limits.empty_excess
    )
