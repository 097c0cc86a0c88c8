"""Preemption differs from none: under a small cache a sequence loses its place and comes back wrong."""

from __future__ import annotations

import pytest

import pytest_kvcache as kv


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts="full-preemption", conditions=["preempted"])
def test_preemption(kv_conditions: kv.PlannedConditions, kv_limits: kv.Limits) -> None:
    kv.assert_divergence_within(
        kv_conditions["preempted"],
        kv_conditions["batch"],
        kld=kv_limits.kld,
        delta_nll=kv_limits.delta_nll,
        same_top_loss=kv_limits.same_top_loss,
    )
