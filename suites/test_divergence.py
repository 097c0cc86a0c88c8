"""A mind changed: sensible text that the candidate no longer finds probable, however well its own reads."""

from __future__ import annotations

import pytest

import pytest_kvcache as kv


@pytest.mark.kv_smoke
@pytest.mark.kv_sensitive(prompts="smoke")
def test_divergence(
    kv_scores: kv.PlannedScores, kv_baseline_scores: kv.PlannedScores, kv_limits: kv.Limits
) -> None:
    kv.assert_divergence_within(
        kv_scores,
        kv_baseline_scores,
        kld=kv_limits.kld,
        delta_nll=kv_limits.delta_nll,
        same_top_loss=kv_limits.same_top_loss,
    )


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts="full")
def test_divergence_full(
    kv_scores: kv.PlannedScores, kv_baseline_scores: kv.PlannedScores, kv_limits: kv.Limits
) -> None:
    kv.assert_divergence_within(
        kv_scores,
        kv_baseline_scores,
        kld=kv_limits.kld,
        delta_nll=kv_limits.delta_nll,
        same_top_loss=kv_limits.same_top_loss,
    )
