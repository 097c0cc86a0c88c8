"""Features lost in silence: what the engine resolved is not what was asked for, or not the baseline's."""

from __future__ import annotations

import pytest

import pytest_kvcache as kv


@pytest.mark.kv_smoke
@pytest.mark.kv_sensitive(prompts="smoke")
def test_settings(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    kv.assert_settings_kept(kv_outputs, kv_baseline, capacity_gain=kv_limits.capacity_gain)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts="full")
def test_settings_full(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    kv.assert_settings_kept(kv_outputs, kv_baseline, capacity_gain=kv_limits.capacity_gain)
