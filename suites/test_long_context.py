"""Recall lost with length: what stands far back in a long text is not found again."""

from __future__ import annotations

import pytest

import pytest_kvcache as kv


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts="full-long")
def test_long_context(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    kv.assert_baseline_sound(kv_baseline, recall=kv_limits.baseline_recall)
    kv.assert_recall(kv_outputs, kv_baseline, loss=kv_limits.recall_loss)
