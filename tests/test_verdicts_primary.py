"""Figures of the baseline's own texts prove a candidate safe or harmful, or leave it undecided."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from verdict_samples import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    PENALISED,
    codes,
    declared,
    evidence,
    prompt_set,
    prose,
    verdict_on,
)

from pytest_kvcache.policy import Limits
from pytest_kvcache.records import ReasonCode, VerdictKind


def test_a_healthy_candidate_passes_although_it_differs() -> None:
    verdict = verdict_on(evidence(text=lambda i: prose(1000 + i)))
    assert verdict.verdict is PASS
    assert verdict.reasons == ()
    assert verdict.metrics["delta_nll"].value == pytest.approx(0.06, abs=0.001)
    assert verdict.metrics["delta_nll"].n == 32
    assert verdict.metrics["delta_nll"].margin == Limits().delta_nll
    assert verdict.coverage.planned == verdict.coverage.ran == 32
    assert verdict.resolved_kv_dtype == "fp8_e4m3"


def test_nonsense_that_never_loops_fails_by_the_scores_of_the_baselines_text() -> None:
    verdict = verdict_on(evidence(text=lambda i: prose(1000 + i), delta=lambda i: 0.3 + 0.01 * (i % 5)))
    assert verdict.verdict is FAIL
    assert codes(verdict) == {ReasonCode.DELTA_NLL}
    assert "0.319 [" in verdict.reasons[0].message
    assert "margin 0.100" in verdict.reasons[0].message


def test_a_collapse_that_perplexity_hides_fails_by_same_top() -> None:
    verdict = verdict_on(evidence(delta=lambda _: -0.02, loss=lambda i: 0.3 + 0.01 * (i % 5)))
    assert codes(verdict) == {ReasonCode.SAME_TOP}
    assert verdict.metrics["same_top"].value == pytest.approx(1 - verdict.metrics["same_top_loss"].value)


@pytest.mark.parametrize(
    ("shift", "kind"),
    [(0.060, PASS), (0.100, INCONCLUSIVE), (0.140, FAIL)],
    ids=["within", "across", "beyond"],
)
def test_the_interval_decides_against_the_margin(shift: float, kind: VerdictKind) -> None:
    verdict = verdict_on(evidence(delta=lambda i: shift + 0.03 * (-1) ** i))
    assert verdict.verdict is kind
    assert codes(verdict) <= {ReasonCode.UNDECIDED, ReasonCode.DELTA_NLL}


def test_an_interval_that_ends_at_the_margin_passes() -> None:
    margin = verdict_on(evidence()).metrics["delta_nll"].ci_high
    assert verdict_on(evidence(), delta_nll=margin).verdict is PASS
    assert verdict_on(evidence(), delta_nll=margin - 1e-9).verdict is INCONCLUSIVE


@pytest.mark.parametrize(
    ("shift", "says"), [(0.09, "more prompts like these"), (0.1, "more than 10,000 prompts")]
)
def test_what_is_undecided_says_how_many_more_prompts_would_decide(shift: float, says: str) -> None:
    verdict = verdict_on(evidence(delta=lambda i: shift + 0.06 * (-1) ** i))
    assert verdict.verdict is INCONCLUSIVE
    assert says in verdict.summary


def test_a_harm_between_the_two_levels_is_undecided_and_says_why() -> None:
    verdict = verdict_on(evidence(delta=lambda i: 0.114 + 0.03 * (-1) ** i))
    assert codes(verdict) == {ReasonCode.UNDECIDED}
    assert (
        "beyond the margin 0.100 (n = 32), which may be chance in one of several endpoints" in verdict.summary
    )


def test_kld_sees_what_the_given_tokens_do_not() -> None:
    verdict = verdict_on(evidence(delta=lambda _: -0.6))
    assert codes(verdict) == {ReasonCode.KLD}
    assert verdict.metrics["kld"].value > Limits().kld


def test_every_endpoint_says_which_harm_it_would_show_and_how_surely() -> None:
    held = [metric for metric in verdict_on(evidence()).metrics.values() if metric.alpha is not None]
    assert len(held) == 7
    for metric in held:
        assert metric.alpha == pytest.approx(0.025 / 7)
        assert metric.beta == 0.2
        assert metric.margin is not None
        assert metric.detectable is not None
        assert metric.margin < metric.detectable <= 1


def test_more_endpoints_make_a_failure_but_never_a_pass_harder() -> None:
    sets = (evidence(delta=lambda i: 0.1157 + 0.03 * (-1) ** i), evidence(prompt_set(sampling=PENALISED)))
    assert verdict_on(sets[0]).verdict is FAIL
    assert verdict_on(*sets).verdict is INCONCLUSIVE
    healthy = evidence(delta=lambda i: 0.088 + 0.03 * (-1) ** i)
    assert verdict_on(healthy).verdict is verdict_on(healthy, sets[1]).verdict is PASS


def test_prompts_that_two_sets_share_count_once() -> None:
    again = evidence(replace(prompt_set(), name="again"))
    assert verdict_on(evidence(), again).metrics["delta_nll"].n == 32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_log_probabilities_that_are_not_finite_fail(bad: float) -> None:
    sick = evidence()
    assert sick.candidate_scores is not None
    first, *rest = sick.candidate_scores.scores
    values = np.frombuffer(first.logprobs, "<f4").copy()
    values[3] = bad
    scores = replace(sick.candidate_scores, scores=(replace(first, logprobs=values.tobytes()), *rest))
    verdict = verdict_on(replace(sick, candidate_scores=scores))
    assert (verdict.verdict, codes(verdict)) == (FAIL, {ReasonCode.NOT_FINITE})
    assert "1 log-probabilities of the candidate are not finite, in 1 of 32 prompts" in verdict.summary
    assert np.isfinite(verdict.metrics["delta_nll"].value)
    excused = verdict_on(replace(sick, candidate_scores=scores), known_bad=declared(ReasonCode.DELTA_NLL))
    assert (excused.verdict, codes(excused)) == (FAIL, {ReasonCode.NOT_FINITE})
    of_baseline = verdict_on(replace(sick, baseline_scores=scores))
    assert codes(of_baseline) == {ReasonCode.BASELINE_DEGENERATE}
