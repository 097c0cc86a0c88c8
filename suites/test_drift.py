"""Drift: answers that leave the language that was spoken, or the topic, beside the baseline."""

from __future__ import annotations

import pytest

import pytest_kvcache as kv


@pytest.mark.kv_smoke
@pytest.mark.kv_sensitive(prompts=["smoke", "smoke-penalised"])
def test_language(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    pytest.importorskip("py3langid", reason="languages are told apart by the extra pytest-kvcache[language]")
    kv.assert_language_kept(kv_outputs, kv_baseline, margin=kv_limits.language_drift_excess)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts=["full", "full-penalised", "full-frequency"])
def test_language_full(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    pytest.importorskip("py3langid", reason="languages are told apart by the extra pytest-kvcache[language]")
    kv.assert_language_kept(kv_outputs, kv_baseline, margin=kv_limits.language_drift_excess)


@pytest.mark.kv_smoke
@pytest.mark.kv_sensitive(prompts=["smoke", "smoke-penalised"])
def test_topic(kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits) -> None:
    kv.assert_topic_kept(kv_outputs, kv_baseline, margin=kv_limits.topic_drift_excess)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts=["full", "full-penalised", "full-frequency"])
def test_topic_full(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    kv.assert_topic_kept(kv_outputs, kv_baseline, margin=kv_limits.topic_drift_excess)
