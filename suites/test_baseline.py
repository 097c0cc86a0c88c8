"""A baseline that is quantized, degenerate or ignorant itself: it can vouch for nobody."""

from __future__ import annotations

import pytest

import pytest_kvcache as kv


@pytest.mark.kv_smoke
@pytest.mark.kv_sensitive(prompts=["smoke", "smoke-penalised", "smoke-tasks"])
def test_baseline(kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits) -> None:
    kv.assert_baseline_sound(
        kv_baseline,
        degenerate=kv_limits.baseline_degenerate,
        degenerate_penalised=kv_limits.baseline_degenerate_penalised,
        recall=kv_limits.baseline_recall,
    )


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts=["full", "full-penalised", "full-frequency", "full-tasks"])
def test_baseline_full(kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits) -> None:
    kv.assert_baseline_sound(
        kv_baseline,
        degenerate=kv_limits.baseline_degenerate,
        degenerate_penalised=kv_limits.baseline_degenerate_penalised,
        recall=kv_limits.baseline_recall,
    )
