"""A verdict says pass only of what is proven safe, and says why of everything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from verdict_samples import (
    IDENTITY,
    PENALISED,
    PROVENANCE,
    QUANTIZED,
    TODAY,
    WORDS,
    evidence,
    prompt_set,
    prose,
    verdict_on,
)

from pytest_kvcache.evidence import Evidence
from pytest_kvcache.policy import KnownBad, Limits
from pytest_kvcache.records import (
    QUALITY_CODES,
    Message,
    Prompt,
    Provenance,
    ReasonCode,
    Verdict,
    VerdictKind,
)
from pytest_kvcache.verdicts import decide, failed

PASS, FAIL, INCONCLUSIVE, KNOWN_BAD = VerdictKind


def codes(verdict: Verdict) -> set[ReasonCode]:
    return {reason.code for reason in verdict.reasons}


def loop(i: int) -> str:
    return prose(i, 10) + " a gentle soul," * 60


def of_every(n: int, damaged: Callable[[int], str]) -> Callable[[int], str]:
    """Damage every n-th text."""
    return lambda i: damaged(i) if i % n == 0 else prose(i)


# Primary endpoints


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


# Evidence


@pytest.mark.parametrize(
    ("of", "missing"),
    [
        (evidence(prompt_set(15)), "15 scored prompts (at least 16)"),
        (evidence(prompt_set(kinds=("a", "b", "c"))), "3 kinds of prompts (at least 4)"),
        (evidence(baseline_text=lambda i: prose(i, 63)), "63 tokens per prompt (at least 64)"),
    ],
    ids=["prompts", "kinds", "tokens"],
)
def test_too_little_evidence_is_never_a_pass(of: Evidence, missing: str) -> None:
    verdict = verdict_on(of)
    assert verdict.verdict is INCONCLUSIVE
    assert codes(verdict) == {ReasonCode.TOO_LITTLE_EVIDENCE}
    assert missing in verdict.summary


@pytest.mark.parametrize(
    "of",
    [evidence(prompt_set(16)), evidence(baseline_text=lambda i: prose(i, 64))],
    ids=["prompts", "tokens"],
)
def test_just_enough_evidence_passes(of: Evidence) -> None:
    assert verdict_on(of).verdict is PASS


def test_without_scores_there_is_no_pass() -> None:
    verdict = verdict_on(replace(evidence(), baseline_scores=None, candidate_scores=None))
    assert verdict.verdict is INCONCLUSIVE
    assert "0 scored prompts" in verdict.summary


def test_one_prompt_has_no_interval_and_is_no_pass_whatever_the_policy_says() -> None:
    verdict = verdict_on(evidence(prompt_set(1)), min_prompts=1, min_kinds=1)
    assert verdict.verdict is INCONCLUSIVE
    assert "1 scored prompts (at least 2)" in verdict.summary


def test_copies_of_a_prompt_under_other_ids_and_kinds_are_one_prompt() -> None:
    same = prompt_set(20)
    lines = tuple(replace(prompt, text="Write about rain.") for prompt in same.prompts)
    verdict = verdict_on(evidence(replace(same, prompts=lines)))
    assert verdict.verdict is INCONCLUSIVE
    assert "1 scored prompts (at least 16), 1 kinds of prompts (at least 4)" in verdict.summary


@pytest.mark.parametrize(("read", "passes"), [(0, False), (15, False), (16, True), (32, True)])
def test_a_cache_that_scoring_did_not_read_for_most_texts_is_no_pass(read: int, passes: bool) -> None:
    verdict = verdict_on(evidence(delta=lambda i: 1e-6 * (i < read), loss=lambda _: 0.0))
    assert verdict.ok is passes
    if not passes:
        assert verdict.verdict is INCONCLUSIVE
        assert f"give {32 - read} of 32 texts the same" in verdict.summary
        assert "did not read the quantized cache" in verdict.summary


def test_short_texts_say_little_about_a_cache_that_was_not_read() -> None:
    def lengths(i: int) -> str:
        return prose(i, 31) if i < 20 else prose(i, 200)

    assert verdict_on(evidence(baseline_text=lengths, delta=lambda i: 1e-6 * (i >= 20))).ok
    unread = verdict_on(evidence(baseline_text=lambda i: prose(i, 31), delta=lambda _: 0.0))
    assert "give 32 of 32 texts the same" in unread.summary


def test_without_any_evidence_there_is_no_pass() -> None:
    assert verdict_on().verdict is INCONCLUSIVE


def test_a_clear_failure_needs_no_minimum_of_evidence() -> None:
    verdict = verdict_on(evidence(prompt_set(8), delta=lambda _: 2.0))
    assert verdict.verdict is FAIL
    assert codes(verdict) == {ReasonCode.DELTA_NLL, ReasonCode.KLD}


# Secondary endpoints


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


# What makes a comparison void


def between(baseline: Provenance, candidate: Provenance, **candidate_spec: object) -> Verdict:
    healthy = evidence()
    return verdict_on(
        replace(
            healthy,
            baseline=replace(healthy.baseline, provenance=baseline),
            candidate=replace(
                healthy.candidate,
                provenance=candidate,
                spec=replace(healthy.candidate.spec, **candidate_spec),  # type: ignore[arg-type]
            ),
        )
    )


def test_a_quantized_baseline_vouches_for_nobody() -> None:
    verdict = between(QUANTIZED, QUANTIZED)
    assert verdict.verdict is FAIL
    assert codes(verdict) == {ReasonCode.BASELINE_QUANTIZED}
    assert "use --kv-baseline=bfloat16" in verdict.summary


def test_a_candidate_that_resolves_to_the_baselines_cache_tests_nothing() -> None:
    assert codes(between(PROVENANCE, PROVENANCE)) == {ReasonCode.SAME_AS_BASELINE}


def test_a_variant_that_skips_every_layer_tests_nothing_either() -> None:
    arguments = (("kv_cache_dtype_skip_layers", '["0", "1"]'),)
    verdict = between(PROVENANCE, PROVENANCE, engine_args=arguments)
    assert (verdict.verdict, codes(verdict)) == (FAIL, {ReasonCode.SAME_AS_BASELINE})
    assert "a variant that quantizes at least one layer" in verdict.summary


def test_a_model_that_changed_during_the_run_is_red() -> None:
    assert codes(between(PROVENANCE, replace(QUANTIZED, model_id="sha256:bb"))) == {ReasonCode.MODEL_CHANGED}


def test_prompts_that_became_other_tokens_cannot_be_compared() -> None:
    entry = evidence()
    first, *rest = entry.candidate.outputs
    outputs = (replace(first, prompt_token_ids=(1, 2)), *rest)
    verdict = verdict_on(replace(entry, candidate=replace(entry.candidate, outputs=outputs)))
    assert (verdict.verdict, codes(verdict)) == (FAIL, {ReasonCode.MODEL_CHANGED})
    assert "1 of 32 prompts of small (e.g. p00) became other tokens than for the baseline" in verdict.summary


def test_a_conversation_in_which_each_model_answered_itself_has_other_tokens_and_can_be_compared() -> None:
    prompts = prompt_set()
    talks = replace(prompts, prompts=tuple(talk(each.id, each.kind) for each in prompts.prompts))
    entry = evidence(talks)
    outputs = tuple(replace(each, prompt_token_ids=(1, 2)) for each in entry.candidate.outputs)
    assert verdict_on(replace(entry, candidate=replace(entry.candidate, outputs=outputs))).verdict is PASS


def talk(name: str, kind: str) -> Prompt:
    said = (Message("user", f"Tell me about {name}."), Message("assistant", None), Message("user", "Go on."))
    return Prompt(name, kind, messages=said)


def test_a_baseline_that_degenerates_itself_vouches_for_nobody() -> None:
    verdict = verdict_on(evidence(text=loop, baseline_text=loop))
    assert verdict.verdict is FAIL
    assert codes(verdict) == {ReasonCode.BASELINE_DEGENERATE}
    assert codes(verdict_on(evidence(baseline_text=lambda _: ""))) == {ReasonCode.BASELINE_DEGENERATE}


def test_a_small_model_that_loops_in_a_fifth_of_its_outputs_is_still_a_baseline() -> None:
    assert verdict_on(evidence(text=of_every(5, loop), baseline_text=of_every(5, loop))).verdict is PASS


@pytest.mark.parametrize(("looping", "vouches"), [(16, True), (17, False)])
def test_a_baseline_is_judged_by_the_share_itself_not_by_what_chance_allows(
    looping: int, vouches: bool
) -> None:
    def text(i: int) -> str:
        return loop(i) if i < looping else prose(i)

    verdict = verdict_on(evidence(text=text, baseline_text=text))
    assert verdict.ok is vouches
    assert vouches or codes(verdict) == {ReasonCode.BASELINE_DEGENERATE}


@pytest.mark.parametrize(("looping", "vouches"), [(4, True), (5, False)])
def test_of_16_penalised_outputs_of_the_baseline_four_may_loop(looping: int, vouches: bool) -> None:
    def text(i: int) -> str:
        return loop(i) if i < looping else prose(i)

    penalised = evidence(prompt_set(16, sampling=PENALISED), text=text, baseline_text=text)
    verdict = verdict_on(evidence(), penalised)
    assert verdict.ok is vouches
    assert vouches or codes(verdict) == {ReasonCode.BASELINE_DEGENERATE}


# Declarations


def declared(*names: ReasonCode, expires: date | None = date(2027, 1, 1)) -> KnownBad:
    return KnownBad(model="ref:gqa", dtype="fp8", codes=names, why="#840", expires=expires, link="https://x")


BROKEN = evidence(text=of_every(2, loop), delta=lambda _: 0.4)
BROKEN_CODES = (ReasonCode.DELTA_NLL, ReasonCode.DEGENERATE, ReasonCode.SUSPICIOUS)


def test_a_declared_failure_is_known_bad_and_keeps_its_reasons() -> None:
    verdict = verdict_on(BROKEN, known_bad=declared(*BROKEN_CODES))
    assert verdict.verdict is KNOWN_BAD
    assert verdict.ok
    assert codes(verdict) == {ReasonCode.KNOWN_BAD_REPRODUCED, *BROKEN_CODES}
    assert "#840" in verdict.summary


def test_a_failure_for_another_reason_than_declared_stays_red() -> None:
    verdict = verdict_on(BROKEN, known_bad=declared(ReasonCode.DELTA_NLL, ReasonCode.EMPTY))
    assert verdict.verdict is FAIL
    assert ReasonCode.KNOWN_BAD_NOT_REPRODUCED in codes(verdict)
    assert "empty was not seen" in verdict.summary


def test_a_failure_for_more_reasons_than_declared_stays_red() -> None:
    verdict = verdict_on(BROKEN, known_bad=declared(ReasonCode.DELTA_NLL))
    assert verdict.verdict is FAIL
    assert ReasonCode.KNOWN_BAD_NOT_REPRODUCED in codes(verdict)
    assert "degenerate is not declared" in verdict.summary
    both = verdict_on(BROKEN, known_bad=declared(ReasonCode.DELTA_NLL, ReasonCode.EMPTY))
    assert "empty was not seen, degenerate is not declared" in both.summary


def test_passing_although_declared_known_bad_is_red() -> None:
    verdict = verdict_on(evidence(), known_bad=declared(ReasonCode.DELTA_NLL))
    assert verdict.verdict is FAIL
    assert "remove the declaration" in verdict.summary


@pytest.mark.parametrize("of", [BROKEN, evidence()], ids=["still-failing", "passing"])
def test_an_expired_declaration_is_red(of: Evidence) -> None:
    held = verdict_on(of, known_bad=declared(ReasonCode.DELTA_NLL, expires=TODAY))
    assert ReasonCode.KNOWN_BAD_EXPIRED not in codes(held)
    expired = verdict_on(of, known_bad=declared(ReasonCode.DELTA_NLL, expires=date(2026, 5, 31)))
    assert expired.verdict is FAIL
    assert ReasonCode.KNOWN_BAD_EXPIRED in codes(expired)


def test_a_declaration_excuses_neither_little_evidence_nor_a_void_comparison() -> None:
    entry = declared(ReasonCode.DELTA_NLL)
    assert verdict_on(evidence(prompt_set(8)), known_bad=entry).verdict is INCONCLUSIVE
    void = verdict_on(evidence(baseline_text=loop), known_bad=entry)
    assert (void.verdict, codes(void)) == (FAIL, {ReasonCode.BASELINE_DEGENERATE})


def test_a_run_that_gave_nothing_to_judge_is_red() -> None:
    verdict = failed(IDENTITY, ReasonCode.ENGINE_FAILED, "the engine did not start", [prompt_set(32)])
    assert verdict.verdict is FAIL
    assert verdict.summary == "gqa-fp8: fail: the engine did not start"
    assert (verdict.coverage.planned, verdict.coverage.ran, verdict.coverage.skipped) == (32, 0, 32)


def test_outputs_for_other_prompts_are_a_mistake_of_the_caller() -> None:
    healthy = evidence()
    other = replace(healthy.candidate, outputs=healthy.candidate.outputs[1:])
    with pytest.raises(ValueError, match="different prompts: p00"):
        decide(IDENTITY, [replace(healthy, candidate=other)], limits=Limits(), known_bad=None, today=TODAY)
