"""Lost in conversation: what the user said turns ago is gone once the model has answered in between."""

from __future__ import annotations

import pytest

import pytest_kvcache as kv


@pytest.mark.kv_smoke
@pytest.mark.kv_sensitive(prompts="smoke-turns")
def test_multi_turn(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    kv.assert_baseline_sound(kv_baseline, recall=kv_limits.baseline_recall)
    kv.assert_recall(kv_outputs, kv_baseline, loss=kv_limits.recall_loss)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts="full-turns")
def test_multi_turn_full(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    kv.assert_baseline_sound(kv_baseline, recall=kv_limits.baseline_recall)
    kv.assert_recall(kv_outputs, kv_baseline, loss=kv_limits.recall_loss)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts="full-continued", conditions=["continued"])
def test_continued(kv_conditions: kv.PlannedConditions, kv_limits: kv.Limits) -> None:
    kv.assert_conditions_alike(kv_conditions, limits=kv_limits)
