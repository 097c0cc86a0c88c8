"""The verdict: is the candidate as safe to serve as its baseline, by everything that a tier can see?"""

from __future__ import annotations

import pytest

from pytest_kvcache import Verdict


@pytest.mark.kv_smoke
@pytest.mark.kv_sensitive(prompts=["smoke", "smoke-penalised", "smoke-tasks"])
def test_verdict(kv_verdict: Verdict) -> None:
    assert kv_verdict.ok, kv_verdict.summary


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts=["full", "full-penalised", "full-frequency", "full-tasks"])
def test_verdict_full(kv_verdict: Verdict) -> None:
    assert kv_verdict.ok, kv_verdict.summary
