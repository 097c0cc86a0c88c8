"""Answers lost: what stood in the prompt is not found again, though the text still reads well."""

from __future__ import annotations

import pytest

import pytest_kvcache as kv


@pytest.mark.kv_smoke
@pytest.mark.kv_sensitive(prompts="smoke-tasks")
def test_tasks(kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits) -> None:
    kv.assert_baseline_sound(kv_baseline, recall=kv_limits.baseline_recall)
    kv.assert_recall(kv_outputs, kv_baseline, loss=kv_limits.recall_loss)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts="full-tasks")
def test_tasks_full(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    kv.assert_baseline_sound(kv_baseline, recall=kv_limits.baseline_recall)
    kv.assert_recall(kv_outputs, kv_baseline, loss=kv_limits.recall_loss)
