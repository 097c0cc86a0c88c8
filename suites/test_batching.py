"""A batch differs from one request alone: fine in a demonstration, and wrong under load."""

from __future__ import annotations

import pytest

import pytest_kvcache as kv


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts="full-conditions", conditions=["alone"])
def test_batching(kv_conditions: kv.PlannedConditions, kv_limits: kv.Limits) -> None:
    kv.assert_conditions_alike(kv_conditions, limits=kv_limits)
