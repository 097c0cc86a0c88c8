"""Numbers lost: log-probabilities that are NaN or infinite, and the token 0 that samplers take instead."""

from __future__ import annotations

import pytest

import pytest_kvcache as kv


@pytest.mark.kv_smoke
@pytest.mark.kv_sensitive(prompts="smoke")
def test_finiteness(kv_scores: kv.PlannedScores, kv_outputs: kv.PlannedOutputs) -> None:
    kv.assert_finite(kv_scores, kv_outputs)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts=["full", "full-penalised", "full-frequency"])
def test_finiteness_full(kv_scores: kv.PlannedScores, kv_outputs: kv.PlannedOutputs) -> None:
    kv.assert_finite(kv_scores, kv_outputs)
