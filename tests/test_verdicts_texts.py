"""What the candidate wrote itself fails it when it is worse than chance allows, and holds no pass up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from verdict_samples import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    PENALISED,
    WORDS,
    codes,
    evidence,
    loop,
    of_every,
    prompt_set,
    prose,
    verdict_on,
)

from pytest_kvcache.policy import Limits
from pytest_kvcache.records import QUALITY_CODES, ReasonCode, VerdictKind


def test_loops_fail_beyond_the_baselines_own() -> None:
    looping = verdict_on(evidence(text=of_every(2, loop)))
    assert codes(looping) == {ReasonCode.DEGENERATE, ReasonCode.SUSPICIOUS}
    assert verdict_on(evidence(text=of_every(3, loop), baseline_text=of_every(3, loop))).verdict is PASS


@pytest.mark.parametrize(("more", "kind"), [(7, PASS), (8, INCONCLUSIVE), (11, INCONCLUSIVE), (12, FAIL)])
def test_up_to_seven_of_32_loops_more_than_the_baseline_are_chance_and_twelve_are_proof(
    more: int, kind: VerdictKind
) -> None:
    verdict = verdict_on(evidence(text=lambda i: loop(i) if i < more else prose(i)))
    assert verdict.verdict is kind


def test_loops_under_penalties_fail_and_show_that_penalties_do_nothing() -> None:
    sets = [evidence(), evidence(prompt_set(sampling=PENALISED), text=of_every(2, loop))]
    assert codes(verdict_on(*sets)) == {ReasonCode.DEGENERATE, ReasonCode.PENALTIES}
    assert verdict_on(evidence(), evidence(prompt_set(sampling=PENALISED))).verdict is PASS


def test_variants_of_a_phrase_under_penalties_fail_although_no_detector_proves_a_loop() -> None:
    def variants(i: int) -> str:
        return " ".join(f"a very gentle soul, {word}" for word in WORDS[i : i + 30])

    verdict = verdict_on(evidence(), evidence(prompt_set(sampling=PENALISED), text=variants))
    assert ReasonCode.PENALTIES in codes(verdict)
    assert ReasonCode.DEGENERATE not in codes(verdict)


def test_empty_outputs_fail() -> None:
    verdict = verdict_on(evidence(text=of_every(2, lambda _: "")))
    assert codes(verdict) == {ReasonCode.EMPTY, ReasonCode.SUSPICIOUS}


def test_run_away_outputs_fail() -> None:
    sick = evidence(text=lambda i: prose(i, 300), baseline_text=lambda i: prose(i, 100))
    ended = tuple(replace(o, finish_reason="stop") for o in sick.baseline.outputs)
    verdict = verdict_on(replace(sick, baseline=replace(sick.baseline, outputs=ended)))
    assert codes(verdict) == {ReasonCode.RUNAWAY, ReasonCode.SUSPICIOUS}


def test_secondary_endpoints_alone_never_hold_a_pass_up() -> None:
    verdict = verdict_on(evidence(text=of_every(6, loop)))
    assert verdict.metrics["degenerate_excess"].ci_high > Limits().degenerate_excess
    assert verdict.verdict is PASS


def test_every_endpoint_has_its_margin_and_every_failure_its_figure() -> None:
    penalised = evidence(prompt_set(sampling=PENALISED), text=loop)
    verdict = verdict_on(evidence(text=loop, delta=lambda _: 1.0, loss=lambda _: 0.5), penalised)
    assert codes(verdict) <= QUALITY_CODES
    for reason in verdict.reasons:
        assert reason.metric is not None
        metric = verdict.metrics[reason.metric]
        assert metric.margin is not None
        assert f"{metric.value:.3f}" in reason.message
    described = {
        "same_top",
        "degenerate_candidate",
        "degenerate_baseline",
        "first_divergence",
        "never_diverges",
    }
    assert {name for name, metric in verdict.metrics.items() if metric.margin is None} == described
    assert set(verdict.metrics) - described <= set(Limits.__struct_fields__)
