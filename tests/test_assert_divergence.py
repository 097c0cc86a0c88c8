"""assert_divergence_within passes only what is proven, and says in short what is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from verdict_samples import PENALISED, PROVENANCE, output_set, prompt_set, scores

import pytest_kvcache as kv
from pytest_kvcache.records import PlannedScores, ReasonCode, ScoreSet

TEXTS = output_set(prompt_set(), PROVENANCE)
BASELINE = scores(TEXTS)


def candidate(delta: Callable[[int], float], loss: Callable[[int], float] = lambda _: 0.05) -> ScoreSet:
    return scores(TEXTS, delta, loss)


def test_a_healthy_candidate_passes_in_any_shape() -> None:
    healthy = candidate(lambda i: 0.05 + 0.01 * (i % 3))
    kv.assert_divergence_within(healthy, BASELINE)
    kv.assert_divergence_within(list(healthy.scores), iter(BASELINE.scores))


def test_the_message_has_figure_interval_margin_number_and_the_worst_prompts() -> None:
    with pytest.raises(kv.QualityError) as caught:
        kv.assert_divergence_within(candidate(lambda i: 0.4 + 0.01 * i), BASELINE)
    assert caught.value.codes == (ReasonCode.DELTA_NLL, ReasonCode.KLD)
    head, delta, kld = str(caught.value).splitlines()
    assert head == "the candidate is not proven to be within the margins:"
    assert delta.startswith("  delta NLL, in nats per token, is 0.555 [0.5")
    assert "beyond the margin 0.100 (n = 32); worst: p31 0.710, p30 0.700, p29 0.690" in delta
    assert "mean KLD, in nats, is" in kld


def test_too_few_prompts_are_no_proof_and_it_says_how_many_would_be() -> None:
    with pytest.raises(kv.QualityError, match="about 47 more prompts like these would decide") as caught:
        kv.assert_divergence_within(candidate(lambda i: 0.09 + 0.03 * (-1) ** i), BASELINE)
    assert caught.value.codes == (ReasonCode.UNDECIDED,)


def test_proven_harm_silences_what_is_open_as_in_a_verdict() -> None:
    open_and_harmful = candidate(lambda _: 0.3, lambda i: 0.15 + 0.1 * (-1) ** i)
    with pytest.raises(kv.QualityError) as caught:
        kv.assert_divergence_within(open_and_harmful, BASELINE)
    assert caught.value.codes == (ReasonCode.DELTA_NLL,)
    assert "same-top" not in str(caught.value)
    with pytest.raises(kv.QualityError, match="same-top") as caught:
        kv.assert_divergence_within(open_and_harmful, BASELINE, delta_nll=None, kld=None)
    assert caught.value.codes == (ReasonCode.UNDECIDED,)


def test_only_the_margins_that_are_given_count() -> None:
    harmful = candidate(lambda _: 0.3, lambda i: 0.4 + 0.01 * (i % 2))
    kv.assert_divergence_within(harmful, BASELINE, delta_nll=0.4, same_top_loss=0.5)
    kv.assert_divergence_within(harmful, BASELINE, delta_nll=None, same_top_loss=None)
    with pytest.raises(kv.QualityError) as caught:
        kv.assert_divergence_within(harmful, BASELINE, delta_nll=None)
    assert caught.value.codes == (ReasonCode.SAME_TOP,)


def test_numbers_that_are_not_finite_fail_and_a_sick_baseline_is_used_wrongly() -> None:
    first, *rest = BASELINE.scores
    values = np.frombuffer(first.logprobs, "<f4").copy()
    values[3] = np.nan
    sick = replace(BASELINE, scores=(replace(first, logprobs=values.tobytes()), *rest))
    with pytest.raises(
        kv.QualityError, match="1 log-probabilities of the candidate are not finite"
    ) as caught:
        kv.assert_divergence_within(sick, BASELINE)
    assert caught.value.codes == (ReasonCode.NOT_FINITE,)
    with pytest.raises(kv.UsageError, match="of the baseline are not finite"):
        kv.assert_divergence_within(BASELINE, sick)


@pytest.mark.parametrize(
    ("ours", "margins", "says"),
    [
        (BASELINE.scores[:3], {}, "different prompts: p03"),
        (BASELINE, {"kld": -0.1}, "the margin kld must be a number of at least 0, not -0.1"),
        (BASELINE, {"delta_nll": float("nan")}, "the margin delta_nll must be a number"),
        (BASELINE, {"kld": None, "delta_nll": None, "same_top_loss": None}, "at least one margin"),
    ],
    ids=["prompts", "negative", "nan", "none"],
)
def test_misuse_is_one_line(ours: ScoreSet, margins: dict[str, float | None], says: str) -> None:
    with pytest.raises(kv.UsageError, match=says) as caught:
        kv.assert_divergence_within(ours, BASELINE, **margins)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("assert_divergence_within: ")


def test_one_text_has_no_interval() -> None:
    one = BASELINE.scores[0]
    with pytest.raises(kv.UsageError, match="at least two texts"):
        kv.assert_divergence_within(one, one)


# What a verdict would not judge by


def by_fp8(of: ScoreSet) -> ScoreSet:
    return replace(of, spec=replace(of.spec, kv_cache_dtype="fp8_e4m3"))


def test_scores_that_show_no_rounding_of_a_quantized_cache_prove_nothing() -> None:
    unread = by_fp8(BASELINE)
    for ours, theirs in ((unread, BASELINE), (PlannedScores((unread,)), PlannedScores((BASELINE,)))):
        with pytest.raises(kv.QualityError, match="did not read the quantized cache") as caught:
            kv.assert_divergence_within(ours, theirs)
        assert caught.value.codes == (ReasonCode.TOO_LITTLE_EVIDENCE,)


def test_engines_of_wide_caches_may_agree_to_the_last_bit() -> None:
    wide = replace(BASELINE, spec=replace(BASELINE.spec, kv_cache_dtype="bfloat16"))
    kv.assert_divergence_within(wide, BASELINE)
    again = by_fp8(BASELINE)
    kv.assert_divergence_within(replace(again, seconds=2.0), again)


def test_harm_is_told_before_a_cache_that_was_not_read() -> None:
    half = by_fp8(candidate(lambda i: 0.0 if i < 20 else 3.0))
    with pytest.raises(kv.QualityError) as caught:
        kv.assert_divergence_within(half, BASELINE)
    assert ReasonCode.TOO_LITTLE_EVIDENCE not in caught.value.codes


def test_the_same_set_twice_is_misuse_but_a_target_may_be_its_own_baseline() -> None:
    with pytest.raises(kv.UsageError, match="are the same scores"):
        kv.assert_divergence_within(BASELINE, BASELINE)
    planned = PlannedScores((BASELINE,))
    kv.assert_divergence_within(planned, planned)


def test_texts_sampled_under_penalties_are_misuse() -> None:
    penalised = output_set(prompt_set(sampling=PENALISED), PROVENANCE)
    ours = scores(penalised, lambda _: 0.05)
    with pytest.raises(kv.UsageError, match="penalised is sampled under penalties"):
        kv.assert_divergence_within(ours, scores(penalised))


def test_prompts_that_say_the_same_are_one_prompt() -> None:
    prompts = prompt_set(20)
    copies = replace(prompts, prompts=tuple(replace(p, text="Write about rain.") for p in prompts.prompts))
    texts = output_set(copies, PROVENANCE)
    with pytest.raises(kv.UsageError, match="at least two texts"):
        kv.assert_divergence_within(scores(texts, lambda _: 0.05), scores(texts))
    two = replace(copies, prompts=(*copies.prompts[:19], prompts.prompts[19]))
    texts = output_set(two, PROVENANCE)
    with pytest.raises(kv.QualityError, match=r"\(n = 2\)"):
        kv.assert_divergence_within(
            scores(texts, lambda i: 0.08 + 0.04 * (i > 18)), list(scores(texts).scores)
        )
