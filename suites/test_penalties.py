"""Penalties without effect: a collapsed model answers them with variants of its loop."""

from __future__ import annotations

import pytest

import pytest_kvcache as kv


@pytest.mark.kv_smoke
@pytest.mark.kv_sensitive(prompts="smoke-penalised")
def test_penalties(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    kv.assert_penalties_effective(kv_outputs, kv_baseline, margin=kv_limits.penalised_repetition_excess)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts=["full-penalised", "full-frequency"])
def test_penalties_full(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    kv.assert_penalties_effective(kv_outputs, kv_baseline, margin=kv_limits.penalised_repetition_excess)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts="full-frequency-alone")
def test_frequency_alone(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    kv.assert_penalties_effective(kv_outputs, kv_baseline, margin=kv_limits.penalised_repetition_excess)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts="full-presence-alone")
def test_presence_alone(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    kv.assert_penalties_effective(kv_outputs, kv_baseline, margin=kv_limits.penalised_repetition_excess)


@pytest.mark.kv_smoke
@pytest.mark.kv_sensitive(prompts=["smoke", "smoke-penalised"])
def test_penalties_heeded(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    kv.assert_penalties_heeded(kv_outputs, kv_baseline, margin=kv_limits.penalties_ignored_excess)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts=["full", "full-penalised"])
def test_repetition_heeded(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    kv.assert_penalties_heeded(kv_outputs, kv_baseline, margin=kv_limits.penalties_ignored_excess)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts=["full", "full-frequency-alone"])
def test_frequency_heeded(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    kv.assert_penalties_heeded(kv_outputs, kv_baseline, margin=kv_limits.penalties_ignored_excess)


@pytest.mark.kv_full
@pytest.mark.kv_sensitive(prompts=["full", "full-presence-alone"])
def test_presence_heeded(
    kv_outputs: kv.PlannedOutputs, kv_baseline: kv.PlannedOutputs, kv_limits: kv.Limits
) -> None:
    kv.assert_penalties_heeded(kv_outputs, kv_baseline, margin=kv_limits.penalties_ignored_excess)
