"""Preemption differs from none: under a small cache a sequence loses its place and comes back wrong."""

from __future__ import annotations

import pytest

import pytest_kvcache as kv


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts="full-preemption", conditions=["preempted"])
def test_preemption(kv_conditions: kv.PlannedConditions, kv_limits: kv.Limits) -> None:
    kv.assert_conditions_alike(kv_conditions, limits=kv_limits)
