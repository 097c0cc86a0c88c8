"""What may not be trusted to hold others against is refused as a golden, with the reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from golden_samples import golden, penalised
from verdict_samples import QUANTIZED, prose, scores

from pytest_kvcache.golden_diff import refusals
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import Golden, Prompt, PromptSet

LOOP = prose(1, 10) + " a gentle soul," * 60
TASKS = PromptSet("tasks", tuple(Prompt(f"t{i}", "copy", text=f"Copy {i}.", answer=str(i)) for i in range(8)))


def refused(of: Golden, is_baseline: bool = True, **limits: Any) -> str | None:
    return refusals(of, Limits(**limits), is_baseline)


def test_sound_goldens_are_not_refused() -> None:
    for each in (golden(), penalised(), golden(logprobs=False), golden(TASKS, text=str, logprobs=False)):
        assert refused(each) is None


def test_a_quantized_golden_is_no_baseline_but_may_be_a_candidates_own() -> None:
    own = golden(variant="fp8_e4m3", provenance=QUANTIZED)
    line = refused(own)
    assert line is not None
    assert line.startswith("ref-gqa fp8_e4m3 small (256 tokens, cpu): its own cache is quantized (fp8_e4m3)")
    assert "--kv-baseline=golden:bfloat16" in line
    assert refused(own, is_baseline=False) is None


@pytest.mark.parametrize(("loops", "is_refused"), [(4, False), (5, True)])
def test_a_golden_is_refused_when_more_than_the_limit_is_degenerate(loops: int, is_refused: bool) -> None:
    line = refused(golden(text=lambda i: LOOP if i < loops else prose(i)), is_baseline=False)
    assert (line is not None) is is_refused
    assert line is None or "62% of its 8 outputs are degenerate, above the limit 50%" in line


def test_penalised_goldens_have_a_limit_of_their_own() -> None:
    half = penalised(text=lambda i: LOOP if i % 2 else prose(i))
    assert "(baseline_degenerate_penalised)" in (refused(half) or "")
    assert refused(half, baseline_degenerate_penalised=0.5) is None


def test_a_golden_without_any_text_is_refused() -> None:
    assert "no text" in (refused(golden(TASKS, text=lambda _: " ", logprobs=False)) or "")
    nothing = golden(PromptSet("none", ()))
    assert "no text" in (refused(nothing) or "")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_log_probabilities_that_are_not_finite_are_refused(value: float) -> None:
    of = golden()
    sick = scores(of.outputs, lambda i: value if i == 2 else 0.0)
    for each in (replace(of, scores=sick), replace(of, floor=sick)):
        assert "log-probabilities of 1 texts are not finite" in (refused(each) or "")


@pytest.mark.parametrize(("right", "is_refused"), [(2, False), (1, True)])
def test_a_golden_of_hardly_any_right_answer_is_refused(right: int, is_refused: bool) -> None:
    of = golden(TASKS, text=lambda i: str(i) if i < right else "no idea", logprobs=False)
    line = refused(of)
    assert (line is not None) is is_refused
    assert line is None or "12% of its 8 answers are right, below the limit 25% (baseline_recall)" in line
    assert refused(of, baseline_recall=0.1) is None
