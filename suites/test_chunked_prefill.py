"""Chunked prefill differs from whole: long prompts go wrong when the server is busy."""

from __future__ import annotations

import pytest

import pytest_kvcache as kv


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts="full-conditions", conditions=["chunked"])
def test_chunked_prefill(kv_conditions: kv.PlannedConditions, kv_limits: kv.Limits) -> None:
    kv.assert_conditions_alike(kv_conditions, limits=kv_limits)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts="full-conditions", conditions=["whole"])
def test_whole_prefill(kv_conditions: kv.PlannedConditions, kv_limits: kv.Limits) -> None:
    kv.assert_conditions_alike(kv_conditions, limits=kv_limits)
