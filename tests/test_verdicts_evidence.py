"""A verdict needs enough evidence for a pass, of texts whose scoring read the quantized cache."""

from __future__ import annotations

from dataclasses import replace

import pytest
from verdict_samples import (
    FAIL,
    IDENTITY,
    INCONCLUSIVE,
    PASS,
    TODAY,
    codes,
    evidence,
    prompt_set,
    prose,
    verdict_on,
)

from pytest_kvcache.evidence import Evidence
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import ReasonCode
from pytest_kvcache.verdicts import decide, failed


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


def test_prompts_of_too_few_kinds_are_told_how_to_name_them_or_to_do_without() -> None:
    remedy = "name each prompt's `kind` in the prompt file, or set the limit `min_kinds`"
    alike = evidence(prompt_set(kinds=("custom",)))
    assert verdict_on(alike).summary.endswith(f"pass: 1 kind of prompts (at least 4); {remedy}")
    assert verdict_on(alike, min_kinds=1).verdict is PASS
    assert remedy not in verdict_on(evidence(prompt_set(15))).summary


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
    assert "1 scored prompt (at least 2)" in verdict.summary


def test_copies_of_a_prompt_under_other_ids_and_kinds_are_one_prompt() -> None:
    same = prompt_set(20)
    lines = tuple(replace(prompt, text="Write about rain.") for prompt in same.prompts)
    verdict = verdict_on(evidence(replace(same, prompts=lines)))
    assert verdict.verdict is INCONCLUSIVE
    assert "1 scored prompt (at least 16), 1 kind of prompts (at least 4)" in verdict.summary


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
