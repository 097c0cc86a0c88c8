"""Engines that cannot be compared, and a baseline that vouches for nobody, make a verdict red."""

from __future__ import annotations

from dataclasses import replace

import pytest
from verdict_samples import (
    FAIL,
    PASS,
    PENALISED,
    PROVENANCE,
    QUANTIZED,
    codes,
    evidence,
    loop,
    of_every,
    prompt_set,
    prose,
    verdict_on,
)

from pytest_kvcache.records import Message, Prompt, Provenance, ReasonCode, Verdict


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
