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
    _check_read_back(kv_outputs)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts="full-turns")
def test_multi_turn_full(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    kv.assert_baseline_sound(kv_baseline, recall=kv_limits.baseline_recall)
    kv.assert_recall(kv_outputs, kv_baseline, loss=kv_limits.recall_loss)
    _check_read_back(kv_outputs)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts="full-continued", conditions=["continued"])
def test_continued(kv_conditions: kv.PlannedConditions, kv_limits: kv.Limits) -> None:
    kv.assert_conditions_alike(kv_conditions, limits=kv_limits)


def _check_read_back(outputs: kv.PlannedOutputs) -> None:
    """Raise EngineError where an engine has a prefix cache, and no turn read an earlier one from it."""
    for each in outputs.sets:
        engine = each.provenance
        if engine.prefix_caching and each.counts.cached_tokens == 0:
            raise kv.EngineError(
                f"{each.spec.model} under {each.spec.kv_cache_dtype}: no turn of {each.prompt_set.name} was "
                f"read back from the prefix cache, in blocks of {engine.block_size}; give smaller ones "
                "(--kv-engine-arg=block_size=N), or have it computed whole (enable_prefix_caching=false)"
            )
