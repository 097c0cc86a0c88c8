"""Nonsense: soups of tokens, mixed scripts, stray and broken characters, beside the baseline."""

from __future__ import annotations

import pytest

import pytest_kvcache as kv


@pytest.mark.kv_smoke
@pytest.mark.kv_sensitive(prompts=["smoke", "smoke-penalised"])
def test_nonsense(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    kv.assert_nonsense_within(kv_outputs, kv_baseline, margin=kv_limits.nonsense_excess)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts=["full", "full-penalised", "full-frequency"])
def test_nonsense_full(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    kv.assert_nonsense_within(kv_outputs, kv_baseline, margin=kv_limits.nonsense_excess)
