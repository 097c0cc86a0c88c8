"""What was scored is fit to judge by only if it is of the quantized cache, and quieter than the margins."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from verdict_samples import PENALISED, codes, evidence, prompt_set, prose, score, verdict_on

from pytest_kvcache.evidence import Evidence
from pytest_kvcache.policy import KnownBad, Limits
from pytest_kvcache.records import ReasonCode, ScoreSet, Verdict, VerdictKind
from pytest_kvcache.soundness import noise_floor

PRIMARY = ("delta_nll", "kld", "same_top_loss")
ALONE = 32
"""Tokens of each text that are scored alone."""


def with_floor(
    of: Evidence, delta: Callable[[int], float] = lambda _: 0.0, loss: float = 0.0, texts: int = 8
) -> Evidence:
    """Let the baseline give the beginnings of its texts, one at a time, other figures than in the batch."""
    assert of.baseline_scores is not None
    alone = []
    for i, output in enumerate(of.baseline.outputs[:texts]):
        begun = replace(output, token_ids=output.token_ids[:ALONE])
        top = [token + (k < loss * ALONE) for k, token in enumerate(begun.token_ids)]
        alone.append(score(begun, -1.0 - delta(i), top))
    return replace(of, floor_scores=replace(of.baseline_scores, scores=tuple(alone)))


def test_a_floor_is_what_texts_alone_differ_from_the_batch_by() -> None:
    floor = noise_floor([with_floor(evidence(), delta=lambda _: 0.03, loss=0.25)])
    assert floor["delta_nll"] == pytest.approx(0.03, abs=1e-6)
    assert floor["same_top_loss"] == 0.25
    assert floor["kld"] > 0


def test_noise_of_either_sign_does_not_cancel() -> None:
    floor = noise_floor([with_floor(evidence(), delta=lambda i: 0.03 * (-1) ** i)])
    assert floor["delta_nll"] == pytest.approx(0.03, abs=1e-6)


def test_the_floors_of_all_sets_are_pooled_text_by_text() -> None:
    quiet, noisy = with_floor(evidence(), texts=6), with_floor(evidence(), delta=lambda _: 0.04, texts=2)
    assert noise_floor([quiet, noisy])["delta_nll"] == pytest.approx(0.01, abs=1e-6)


def test_a_floor_below_a_third_of_the_margin_is_reported_and_decides_nothing() -> None:
    verdict = verdict_on(with_floor(evidence(), delta=lambda _: 0.033, loss=1 / 32))
    assert verdict.verdict is VerdictKind.PASS
    assert verdict.metrics["delta_nll"].floor == pytest.approx(0.033, abs=1e-6)
    assert all(verdict.metrics[name].floor is not None for name in PRIMARY)
    assert all(metric.floor is None for name, metric in verdict.metrics.items() if name not in PRIMARY)


def test_a_floor_above_a_third_of_the_margin_leaves_a_pass_open() -> None:
    verdict = verdict_on(with_floor(evidence(), delta=lambda _: 0.034))
    assert verdict.verdict is VerdictKind.INCONCLUSIVE
    assert {(reason.code, reason.metric) for reason in verdict.reasons} == {(ReasonCode.NOISE, "delta_nll")}
    assert "0.034" in verdict.reasons[0].message
    assert "0.100" in verdict.reasons[0].message


def test_each_endpoint_is_held_against_its_own_floor() -> None:
    flipping = {reason.metric for reason in verdict_on(with_floor(evidence(), loss=0.06)).reasons}
    assert "same_top_loss" in flipping
    assert "delta_nll" not in flipping
    shifted = {reason.metric for reason in verdict_on(with_floor(evidence(), delta=lambda _: 0.2)).reasons}
    assert "delta_nll" in shifted
    assert "same_top_loss" not in shifted


def test_a_harm_that_noise_could_explain_is_open_and_a_greater_one_fails() -> None:
    def judged(delta: float) -> Verdict:
        sick = evidence(delta=lambda i: delta + 0.001 * (i % 3))
        return verdict_on(with_floor(sick, delta=lambda _: 0.05), kld=9.0)

    assert codes(judged(0.12)) == {ReasonCode.NOISE}
    assert codes(judged(0.17)) == {ReasonCode.DELTA_NLL}


def test_a_floor_never_moves_the_margin_of_a_pass() -> None:
    harms = [verdict_on(with_floor(evidence(), delta=lambda _: d)) for d in (0.0, 0.01, 0.03)]  # noqa: B023
    for one, other in pairwise(harms):
        assert one.verdict is other.verdict is VerdictKind.PASS
        assert one.metrics["delta_nll"].margin == other.metrics["delta_nll"].margin == 0.10


def test_margins_of_zero_ask_for_no_noise_at_all() -> None:
    exact = evidence(delta=lambda _: 0.0, loss=lambda _: 0.0)
    assert exact.candidate_scores is not None
    assert ReasonCode.NOISE not in codes(verdict_on(with_floor(exact), delta_nll=0.0))
    assert ReasonCode.NOISE in codes(verdict_on(with_floor(exact, delta=lambda _: 1e-3), delta_nll=0.0))


def test_figures_that_are_not_finite_alone_are_no_floor_to_trust() -> None:
    verdict = verdict_on(with_floor(evidence(), delta=lambda i: math.nan if i == 3 else 0.0))
    assert verdict.verdict is VerdictKind.INCONCLUSIVE
    assert codes(verdict) == {ReasonCode.NOISE}
    assert verdict.metrics["delta_nll"].floor == math.inf
    assert "what the baseline gives texts alone is not finite" in verdict.reasons[0].message
    assert "inf," not in verdict.summary


def test_without_texts_scored_alone_the_floor_is_unknown_and_nothing_passes() -> None:
    bare = replace(evidence(), floor_scores=None)
    assert bare.baseline_scores is not None
    empty = replace(bare, floor_scores=replace(bare.baseline_scores, scores=()))
    for each in (bare, empty):
        verdict = verdict_on(each)
        assert verdict.verdict is VerdictKind.INCONCLUSIVE
        assert codes(verdict) == {ReasonCode.TOO_LITTLE_EVIDENCE}
        assert "noise floor is unknown" in verdict.summary
        assert verdict.metrics["delta_nll"].floor is None


def test_harm_fails_also_where_the_floor_is_unknown() -> None:
    sick = replace(evidence(delta=lambda i: 0.3 + 0.01 * (i % 3)), floor_scores=None)
    assert codes(verdict_on(sick)) == {ReasonCode.DELTA_NLL}


def test_what_is_not_scored_needs_no_floor() -> None:
    penalised = evidence(prompt_set(sampling=PENALISED))
    assert verdict_on(evidence(), penalised).verdict is VerdictKind.PASS


def test_noise_alone_excuses_no_declared_failure() -> None:
    declared = KnownBad(model="ref:gqa", dtype="fp8", codes=(ReasonCode.DELTA_NLL,), why="w", link="l")
    verdict = verdict_on(with_floor(evidence(), delta=lambda _: 0.05), known_bad=declared)
    assert verdict.verdict is VerdictKind.INCONCLUSIVE


def unable(of: Evidence, **changes: Any) -> Evidence:
    engine = replace(of.candidate.provenance, scoring_difference=None, **changes)
    return replace(of, candidate=replace(of.candidate, provenance=engine))


def test_a_quantized_candidate_that_proved_no_reading_of_its_cache_is_open() -> None:
    verdict = verdict_on(unable(evidence()))
    assert verdict.verdict is VerdictKind.INCONCLUSIVE
    assert codes(verdict) == {ReasonCode.TOO_LITTLE_EVIDENCE}
    assert "speculative" in verdict.reasons[0].message


def test_harm_that_shows_without_such_proof_still_fails() -> None:
    verdict = verdict_on(unable(evidence(delta=lambda i: 0.5 + 0.01 * (i % 3))))
    assert verdict.verdict is VerdictKind.FAIL
    assert ReasonCode.TOO_LITTLE_EVIDENCE not in codes(verdict)


def test_proof_is_asked_once_of_what_was_scored_and_quantized() -> None:
    penalised = unable(evidence(prompt_set(sampling=PENALISED)))
    assert verdict_on(evidence(), penalised).verdict is VerdictKind.PASS
    wide = unable(evidence(), kv_cache_quantized=False, kv_cache_dtype="float16")
    assert verdict_on(wide).verdict is VerdictKind.PASS
    assert len(verdict_on(unable(evidence()), unable(evidence())).reasons) == 1


def test_verdicts_tell_where_free_running_outputs_part() -> None:
    def parting(i: int) -> str:
        words = prose(i).split(" ")
        return prose(i) if i % 4 == 0 else " ".join([*words[:10], *prose(99 + i).split(" ")[10:]])

    metrics = verdict_on(evidence(text=parting)).metrics
    part, never = metrics["first_divergence"], metrics["never_diverges"]
    assert part.n == 24
    assert 10 <= part.ci_low <= part.value <= part.ci_high
    assert part.value < 13
    assert (never.value, never.n) == (0.25, 32)
    assert part.margin is never.margin is None


def test_outputs_that_never_part_have_no_position() -> None:
    metrics = verdict_on(evidence()).metrics
    assert "first_divergence" not in metrics
    assert metrics["never_diverges"].value == 1.0


def test_penalised_outputs_part_without_a_figure() -> None:
    def other(i: int) -> str:
        return prose(500 + i)

    verdict = verdict_on(evidence(), evidence(prompt_set(sampling=PENALISED), text=other))
    assert verdict.metrics["never_diverges"].n == 32


def test_limits_leave_room_for_the_noise_that_was_measured() -> None:
    measured = {"delta_nll": 0.005, "kld": 0.0024, "same_top_loss": 0.039}
    assert all(floor < getattr(Limits(), name) / 3 for name, floor in measured.items())


# Evidence that is not all there


def in_other_words(of: Evidence) -> Evidence:
    """Give the same evidence for another set, of other prompts."""
    prompts = tuple(replace(prompt, text=f"Again: {prompt.text}") for prompt in of.prompt_set.prompts)
    other = replace(of.prompt_set, name="other", prompts=prompts)
    return replace(of, prompt_set=other)


def cut(of: ScoreSet | None, texts: int, tokens: int = 9999) -> ScoreSet | None:
    assert of is not None
    return replace(of, scores=tuple(score.first(tokens) for score in of.scores[:texts]))


def of_nobody(of: Evidence) -> Evidence:
    """Replace all scores by those of texts that the baseline did not write."""
    other = evidence(baseline_text=lambda i: prose(5000 + i))
    return replace(
        of,
        baseline_scores=other.baseline_scores,
        candidate_scores=other.candidate_scores,
        floor_scores=other.floor_scores,
    )


def of_unknown_prompts(of: ScoreSet | None) -> ScoreSet | None:
    assert of is not None
    return replace(of, scores=tuple(replace(score, prompt_id=f"no-{score.prompt_id}") for score in of.scores))


HEALTHY = evidence()
INCOMPLETE = {
    "a set without the candidate's scores": (
        replace(in_other_words(HEALTHY), candidate_scores=None),
        "of other, 0 of the baseline's 32 texts were scored by both engines",
    ),
    "half of the scores": (
        replace(
            HEALTHY,
            baseline_scores=cut(HEALTHY.baseline_scores, 16),
            candidate_scores=cut(HEALTHY.candidate_scores, 16),
        ),
        "16 of the baseline's 32 texts",
    ),
    "scores of other texts": (of_nobody(HEALTHY), "are of no text of the baseline's"),
    "a set without a floor": (
        replace(in_other_words(HEALTHY), floor_scores=None),
        "of other, 0 of the baseline's 32 texts were scored alone (at least 8)",
    ),
    "a floor of one text": (
        replace(HEALTHY, floor_scores=cut(HEALTHY.floor_scores, 1)),
        "1 of the baseline's 32 texts were scored alone (at least 8), so the noise floor is unknown",
    ),
    "a floor of texts without tokens": (
        replace(HEALTHY, floor_scores=cut(HEALTHY.floor_scores, 8, tokens=0)),
        "0 of the baseline's 32 texts were scored alone",
    ),
    "a floor of unknown prompts": (
        replace(HEALTHY, floor_scores=of_unknown_prompts(HEALTHY.floor_scores)),
        "8 scores (e.g. no-p00) are of no text of the baseline's",
    ),
}


@pytest.mark.parametrize(("of", "says"), INCOMPLETE.values(), ids=INCOMPLETE.keys())
def test_what_is_not_scored_whole_is_no_pass(of: Evidence, says: str) -> None:
    verdict = verdict_on(HEALTHY, of)
    assert verdict.verdict is VerdictKind.INCONCLUSIVE
    assert codes(verdict) == {ReasonCode.TOO_LITTLE_EVIDENCE}
    assert says in verdict.summary


def test_empty_outputs_need_no_scores_and_a_small_set_is_scored_alone_whole() -> None:
    def some(i: int) -> str:
        return "" if i < 2 else prose(i)

    holes = evidence(baseline_text=some, text=some)
    assert verdict_on(with_floor(holes, texts=10)).verdict is VerdictKind.PASS
    small = in_other_words(evidence(prompt_set(5)))
    assert verdict_on(HEALTHY, small).verdict is VerdictKind.PASS


def test_scores_of_different_prompts_cannot_be_compared() -> None:
    short = replace(HEALTHY, candidate_scores=cut(HEALTHY.candidate_scores, 31))
    with pytest.raises(ValueError, match=r"only one side scored the texts of 1 prompts \(e.g. p31\)"):
        verdict_on(short)
