"""A compiled model differs from an eager one: kernels that are fused read or write the cache otherwise.

Of the two tests that one runs whose condition is not how the engine is served anyway.
"""

from __future__ import annotations

import pytest

import pytest_kvcache as kv


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts="full-conditions", conditions=["compiled"])
def test_compiled(kv_conditions: kv.PlannedConditions, kv_limits: kv.Limits) -> None:
    kv.assert_conditions_alike(kv_conditions, limits=kv_limits)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts="full-conditions", conditions=["eager"])
def test_eager(kv_conditions: kv.PlannedConditions, kv_limits: kv.Limits) -> None:
    kv.assert_conditions_alike(kv_conditions, limits=kv_limits)
