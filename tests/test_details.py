"""A verdict tells where the candidate diverges, for people to read."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from verdict_samples import PENALISED, evidence, prompt_set, prose, score, verdict_on

from pytest_kvcache.details import divergence_detail
from pytest_kvcache.endpoints import compare_all
from pytest_kvcache.evidence import Evidence
from pytest_kvcache.records import DivergenceDetail, Estimate


def detail(*of: Evidence) -> DivergenceDetail:
    found = divergence_detail(compare_all(of))
    assert found is not None
    return found


def test_kinds_are_told_worst_first_with_all_three_figures() -> None:
    worst, *others = detail(evidence(delta=lambda i: 0.4 if i % 4 == 1 else 0.01)).kinds
    assert (worst.kind, worst.kld.n) == ("code", 8)
    assert worst.delta_nll.value == pytest.approx(0.4, abs=0.001)
    assert {of.kind for of in others} == {"chat", "list", "zh"}
    assert all(of.kld.value < worst.kld.value for of in others)


def test_bins_go_along_the_text_to_its_end() -> None:
    bins = detail(evidence()).bins
    assert [(each.start, each.end) for each in bins] == [(0, 16), (16, 32), (32, 64), (64, 120)]
    assert all(each.kld.n == 32 for each in bins)


@pytest.mark.parametrize(("drift", "grows"), [(0.0, False), (0.01, True)])
def test_growth_is_above_0_where_errors_pile_up(drift: float, grows: bool) -> None:
    even = evidence()
    assert even.candidate_scores is not None
    drifting = [score(of, [-1.05 - drift * k for k in range(len(of.token_ids))]) for of in even.baseline]
    found = detail(replace(even, candidate_scores=replace(even.candidate_scores, scores=tuple(drifting))))
    assert found.growth is not None
    assert found.growth.low is not None
    assert found.growth.n == 32
    assert (found.growth.low > 0.1) is grows
    assert (found.bins[-1].kld.value > found.bins[0].kld.value) is grows


def test_a_prompt_that_two_sets_hold_counts_once_and_one_name_of_two_prompts_twice() -> None:
    plain = evidence(prompt_set(8))
    other = replace(plain, prompt_set=replace(plain.prompt_set, name="other"))
    changed = tuple(replace(prompt, text=f"{prompt.text} Now.") for prompt in plain.prompt_set.prompts)
    different = replace(plain, prompt_set=replace(plain.prompt_set, name="different", prompts=changed))
    for second, counted in ((other, 8), (different, 16)):
        found = detail(plain, second)
        assert found.bins[0].kld.n == counted
        assert sum(of.kld.n for of in found.kinds) == counted


def test_one_prompt_of_a_kind_has_a_figure_and_no_interval() -> None:
    alone = next(of for of in detail(evidence(prompt_set(5))).kinds if of.kld.n == 1)
    assert alone.kld == Estimate(alone.kld.value, None, None, 1)
    assert math.isfinite(alone.kld.value)


def test_texts_that_are_too_short_for_a_slope_have_no_growth() -> None:
    found = detail(evidence(baseline_text=lambda i: prose(i, 5)))
    assert found.growth is None
    assert [(each.start, each.end) for each in found.bins] == [(0, 5)]


def test_a_verdict_carries_the_details_and_none_where_nothing_was_compared() -> None:
    assert verdict_on(evidence()).divergence == detail(evidence())
    assert verdict_on(evidence(prompt_set(sampling=PENALISED))).divergence is None
    broken = evidence(baseline_text=lambda i: prose(i, 10) + " a gentle soul," * 60)
    assert verdict_on(broken).divergence is None
