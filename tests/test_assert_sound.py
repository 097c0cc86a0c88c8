"""Numbers that are none, and baselines that can vouch for nobody, fail without statistics."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from verdict_samples import (
    PENALISED,
    PROVENANCE,
    QUANTIZED,
    output,
    output_set,
    prompt_set,
    prose,
    score,
    scores,
)

import pytest_kvcache as kv
from pytest_kvcache.records import OutputSet, PlannedOutputs, Prompt, PromptSet, ReasonCode

TEXTS = output_set(prompt_set(8), PROVENANCE)
LOOP = prose(1, 10) + " a gentle soul," * 60
TASKS = PromptSet("tasks", tuple(Prompt(f"t{i}", "sum", text=f"{i} is", answer=str(i)) for i in range(8)))


@pytest.mark.parametrize("value", [math.nan, -math.inf, math.inf, 0.5], ids=str)
def test_one_log_probability_that_is_none_fails(value: float) -> None:
    given = scores(TEXTS)
    text = TEXTS.outputs[3]
    bad = score(text, [-1.0] * 7 + [value] + [-1.0] * (len(text.token_ids) - 8))
    broken = replace(given, scores=(*given.scores[:3], bad, *given.scores[4:]))
    kv.assert_finite(given, TEXTS)
    with pytest.raises(kv.QualityError, match=r"at 1 positions are not finite, in 1 of 8 .*: p03") as caught:
        kv.assert_finite(broken, TEXTS)
    assert caught.value.codes == (ReasonCode.NOT_FINITE,)


def test_a_top_log_probability_counts_as_a_given_one_does() -> None:
    given = scores(TEXTS)
    top = b"\x00\x00\xc0\x7f" + given.scores[0].top_logprobs[4:]
    with pytest.raises(kv.QualityError, match="p00"):
        kv.assert_finite([replace(given.scores[0], top_logprobs=top)])


def stuck(tokens: int) -> OutputSet:
    zeros = replace(output("p00", "Well" + "!" * tokens), token_ids=(5, 6, *[0] * tokens, 7))
    return replace(TEXTS, outputs=(zeros, *TEXTS.outputs[1:]))


def test_an_output_stuck_on_token_0_fails_and_a_few_of_it_do_not() -> None:
    kv.assert_finite(scores(TEXTS), stuck(15))
    with pytest.raises(kv.QualityError, match="1 of 8 outputs are stuck on token 0: p00") as caught:
        kv.assert_finite(scores(TEXTS), stuck(16))
    assert caught.value.codes == (ReasonCode.NOT_FINITE,)


def test_no_scores_are_refused() -> None:
    with pytest.raises(kv.UsageError, match=r"^assert_finite: scores holds no scores"):
        kv.assert_finite([])
    with pytest.raises(kv.UsageError, match=r"^assert_finite: scores takes a ScoreSet"):
        kv.assert_finite("text")  # type: ignore[arg-type]


def baseline(loops: int = 0, penalised_loops: int = 0, wrong: int = 0) -> PlannedOutputs:
    return PlannedOutputs(
        (
            output_set(prompt_set(16), PROVENANCE, lambda i: LOOP if i < loops else prose(i)),
            output_set(
                prompt_set(16, sampling=PENALISED),
                PROVENANCE,
                lambda i: LOOP if i < penalised_loops else prose(i),
            ),
            output_set(TASKS, PROVENANCE, lambda i: "no idea" if i < wrong else f"It is {i}."),
        )
    )


def test_a_baseline_that_loops_as_small_models_do_is_sound() -> None:
    kv.assert_baseline_sound(baseline(loops=8, penalised_loops=4, wrong=6))
    kv.assert_baseline_sound(baseline().sets[0])


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        ({"loops": 9}, "share of the baseline's outputs that are degenerate is 0.562"),
        ({"penalised_loops": 5}, "share of the baseline's penalised outputs that are degenerate is 0.312"),
        ({"wrong": 7}, "share of tasks that the baseline gets right is 0.125"),
    ],
)
def test_a_baseline_with_more_faults_than_its_limit_fails(faults: dict[str, int], told: str) -> None:
    with pytest.raises(kv.QualityError, match=told) as caught:
        kv.assert_baseline_sound(baseline(**faults))
    assert caught.value.codes == (ReasonCode.BASELINE_DEGENERATE,)
    kv.assert_baseline_sound(baseline(**faults), degenerate=1, degenerate_penalised=1, recall=0)


def test_a_quantized_baseline_fails_however_well_it_writes() -> None:
    quantized = output_set(prompt_set(8), QUANTIZED)
    with pytest.raises(kv.QualityError, match="use --kv-baseline=bfloat16") as caught:
        kv.assert_baseline_sound(quantized)
    assert caught.value.codes == (ReasonCode.BASELINE_QUANTIZED,)


def test_what_is_no_set_is_refused() -> None:
    with pytest.raises(kv.UsageError, match=r"^assert_baseline_sound: baseline takes"):
        kv.assert_baseline_sound("text")  # type: ignore[arg-type]


def test_a_baseline_of_no_outputs_is_refused_and_not_sound() -> None:
    for nothing in (PlannedOutputs(()), replace(TEXTS, outputs=())):
        with pytest.raises(kv.UsageError, match=r"^assert_baseline_sound: baseline holds no outputs"):
            kv.assert_baseline_sound(nothing)
