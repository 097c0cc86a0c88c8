"""A prefix-cache hit differs from a miss: wrong from the second request on."""

from __future__ import annotations

import pytest

import pytest_kvcache as kv


@pytest.mark.kv_smoke
@pytest.mark.kv_sensitive(prompts="smoke-conditions", conditions=["again"])
def test_prefix_cache(kv_conditions: kv.PlannedConditions, kv_limits: kv.Limits) -> None:
    kv.assert_conditions_alike(kv_conditions, limits=kv_limits)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts="full-conditions", conditions=["again"])
def test_prefix_cache_full(kv_conditions: kv.PlannedConditions, kv_limits: kv.Limits) -> None:
    kv.assert_conditions_alike(kv_conditions, limits=kv_limits)
