"""Stops passed over: text that goes on past its stop string or its length, or never reaches the stop."""

from __future__ import annotations

import pytest

import pytest_kvcache as kv


@pytest.mark.kv_smoke
@pytest.mark.kv_sensitive(prompts="smoke-stops")
def test_stopping(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    kv.assert_stops_obeyed(kv_outputs, kv_baseline, margin=kv_limits.runaway_excess)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts="smoke-stops")
def test_stopping_full(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    kv.assert_stops_obeyed(kv_outputs, kv_baseline, margin=kv_limits.runaway_excess)
