"""Scales lost: a checkpoint calibrated for its cache is served without its scales, or with others."""

from __future__ import annotations

import pytest

import pytest_kvcache as kv


@pytest.mark.kv_smoke
@pytest.mark.kv_sensitive(prompts="smoke")
def test_scales(kv_outputs: kv.PlannedOutputs) -> None:
    _skip_without_scales(kv_outputs)
    kv.assert_scales_loaded(kv_outputs)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts="full")
def test_scales_full(kv_outputs: kv.PlannedOutputs) -> None:
    _skip_without_scales(kv_outputs)
    kv.assert_scales_loaded(kv_outputs)


def _skip_without_scales(outputs: kv.PlannedOutputs) -> None:
    engine = outputs.sets[0].provenance
    if engine.lacks_scales:
        pytest.skip(engine.lacks_scales)
    if engine.checkpoint_scales is None and engine.scales_differ is None:
        pytest.skip("the checkpoint's kv scales are not known: no safetensors files of it could be read")
    if not engine.kv_cache_quantized:
        pytest.skip("the kv cache is not quantized and uses no scales")
