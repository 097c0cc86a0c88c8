"""Divergence sums up what two engines think of the same texts, as llama.cpp does and prompt by prompt."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from test_measures_kld import engines, exact_kld, score_of
from verdict_samples import PROVENANCE as PLAIN
from verdict_samples import evidence, output, output_set, prompt_set, scores, verdict_on

import pytest_kvcache as kv
from pytest_kvcache.measures.divergence import Divergence, compare_scores, divergence, first_divergence
from pytest_kvcache.records import ReasonCode, Score, VerdictKind


def some(count: int = 4, noise: float = 0.5) -> tuple[list[Score], list[Score]]:
    """Return a candidate's and a baseline's scores of texts of 40 tokens, with whole distributions."""
    ours: list[Score] = []
    theirs: list[Score] = []
    for seed in range(count):
        baseline, candidate, given = engines(seed, noise=noise)
        ours.append(replace(score_of(candidate, given, 200), prompt_id=f"p{seed}"))
        theirs.append(replace(score_of(baseline, given, 200), prompt_id=f"p{seed}"))
    return ours, theirs


def rising(slope: float, texts: int = 6, length: int = 50) -> Divergence:
    """Return a divergence whose KLD is 0.2 and rises by ``slope`` a token, on texts of other levels."""
    ours: list[Score] = []
    theirs: list[Score] = []
    for i in range(texts):
        p = 0.5 + 0.02 * i
        wanted = 0.02 * i + 0.2 + slope * np.arange(length)
        q = np.array([_with_kld(p, kld) for kld in wanted])
        ids = tuple(range(length))
        for collected, probability in ((ours, q), (theirs, np.full(length, p))):
            logs = np.log(probability).astype("<f4").tobytes()
            collected.append(Score(f"p{i}", ids, logs, np.arange(length, dtype="<i4").tobytes(), logs, 1))
    return divergence(ours, theirs)


def _with_kld(p: float, wanted: float) -> float:
    low, high = 1e-9, p
    for _ in range(80):
        q = (low + high) / 2
        kld = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
        low, high = (q, high) if kld > wanted else (low, q)
    return q


def test_the_statistics_are_those_of_llama_cpp() -> None:
    ours, theirs = some()
    found = divergence(ours, theirs).statistics
    nll, base = (
        -np.concatenate([np.frombuffer(score.logprobs, "<f4").astype(float) for score in side])
        for side in (ours, theirs)
    )
    kld = np.concatenate([exact_kld(*engines(seed)[:2]) for seed in range(4)])
    n = len(nll)
    assert found["Mean KLD"].value == pytest.approx(kld.mean(), abs=1e-4)
    error = math.sqrt((np.mean(kld**2) - kld.mean() ** 2) / (n - 1))
    assert found["Mean KLD"].error == pytest.approx(error, rel=1e-3)
    assert found["Maximum KLD"].value == pytest.approx(kld.max(), abs=1e-4)
    assert found["90.0% KLD"].value == pytest.approx(np.percentile(kld, 90), abs=1e-4)
    assert found["Median KLD"].value == pytest.approx(np.median(kld), abs=1e-4)
    assert found["Mean PPL(Q)"].value == pytest.approx(math.exp(nll.mean()))
    assert found["Mean ln(PPL(Q)/PPL(base))"].value == pytest.approx((nll - base).mean())
    assert found["Mean ln(PPL(Q)/PPL(base))"].error == pytest.approx((nll - base).std(ddof=1) / math.sqrt(n))
    assert found["Cor(ln(PPL(Q)), ln(PPL(base)))"].value == pytest.approx(100 * np.corrcoef(nll, base)[0, 1])
    delta = np.exp(-nll) - np.exp(-base)
    assert found["Mean Δp"].value == pytest.approx(100 * delta.mean())
    assert found["RMS Δp"].value == pytest.approx(100 * math.sqrt((delta**2).mean()))
    assert 50 < found["Same top p"].value < 100


def test_it_prints_one_statistic_a_line_with_its_error() -> None:
    lines = str(divergence(*some())).splitlines()
    assert len(lines) == 34
    assert any(line.startswith("Mean KLD  ") and " ± " in line for line in lines)


def test_intervals_are_over_prompts() -> None:
    found = divergence(*some(6))
    assert found.kld.n == found.delta_nll.n == found.same_top.n == 6
    assert found.kld.low < found.kld.value < found.kld.high
    assert found.unseen == pytest.approx(0, abs=1e-5)


def test_one_score_has_figures_but_no_interval() -> None:
    ours, theirs = some(1)
    found = divergence(ours[0], theirs[0])
    assert found.kld.value > 0
    assert math.isnan(found.kld.low)
    assert found.statistics["Mean KLD"].value == pytest.approx(found.kld.value)


def test_texts_of_nothing_have_no_figures() -> None:
    empty = Score("p", (), b"", b"", b"", 1)
    found = divergence(empty, empty)
    assert (found.texts, found.statistics, found.by_position()) == ((), {}, ())
    assert math.isnan(found.kld.value)
    assert math.isnan(found.growth.value)


def test_a_set_knows_the_kinds_of_its_prompts() -> None:
    texts = output_set(prompt_set(8), PLAIN)
    found = divergence(scores(texts, lambda i: 0.4 if i % 4 == 1 else 0.01), scores(texts))
    kinds = found.by_kind()
    assert list(kinds) == ["chat", "code", "list", "zh"]
    assert kinds["code"].kld.value > 10 * kinds["chat"].kld.value
    assert divergence(*some()).by_kind() == {}


def test_an_error_that_accumulates_shows_as_growth_and_by_position() -> None:
    found = rising(0.004)
    assert found.growth.value == pytest.approx(0.4, abs=0.01)
    assert found.growth.low > 0.3
    first, *_, last = found.by_position()
    assert (first.start, first.end, last.start, last.end) == (0, 16, 32, 50)
    assert last.kld.value - first.kld.value == pytest.approx(0.004 * (40.5 - 7.5), abs=0.002)
    assert rising(0.0).growth.value == pytest.approx(0, abs=1e-3)


def test_positions_that_are_not_finite_are_counted_on_their_side_and_left_out() -> None:
    ours, theirs = some(2)
    top = np.frombuffer(ours[0].top_logprobs, "<f4").copy()
    top[7 * 200] = np.nan
    ours[0] = replace(ours[0], top_logprobs=top.tobytes())
    found = divergence(ours, theirs)
    assert (found.candidate_non_finite, found.baseline_non_finite) == (1, 0)
    assert found.texts[0].positions.size == 39
    assert math.isfinite(found.kld.value)


@pytest.mark.parametrize(("above", "counted"), [(5e-4, 0), (2e-3, 1), (1e4, 1)])
def test_a_log_probability_above_0_by_more_than_rounding_is_none(above: float, counted: int) -> None:
    ours, theirs = some(2)
    given, top = (np.frombuffer(of, "<f4").copy() for of in (ours[0].logprobs, ours[0].top_logprobs))
    given[7] = top[7] = above
    for score in (
        replace(ours[0], logprobs=given.tobytes()),
        replace(ours[0], top_logprobs=top.tobytes()),
    ):
        found = divergence([score, ours[1]], theirs)
        assert (found.candidate_non_finite, found.texts[0].positions.size) == (counted, 40 - counted)


def test_engines_that_give_no_probabilities_at_all_have_nothing_to_compare() -> None:
    ours, theirs = some(2)
    absurd = [
        replace(
            score,
            logprobs=np.full(40, 1e4, "<f4").tobytes(),
            top_logprobs=np.full(8000, 1e4, "<f4").tobytes(),
        )
        for score in ours
    ]
    found = divergence(absurd, theirs)
    assert (found.candidate_non_finite, found.texts) == (80, ())
    assert not compare_scores(absurd[0], theirs[0]).is_finite


@pytest.mark.parametrize("nats", [746.0, 1e4, 1e30])
def test_log_probabilities_that_no_float_holds_the_exponential_of_have_statistics(nats: float) -> None:
    ours, theirs = some(3)
    for i, score in enumerate(ours):
        values = np.frombuffer(score.logprobs, "<f4").copy()
        values[:] = -nats * (1 + 0.01 * i)
        ours[i] = replace(score, logprobs=values.tobytes())
    found = divergence(ours, theirs)
    assert found.kld.value > 0
    assert found.delta_nll.low > 0.9 * nats - 100
    assert math.isfinite(found.kld.high)
    assert found.statistics["Mean PPL(Q)"].value == math.inf


@pytest.mark.parametrize("nats", [746.0, 1e4, 1e30])
def test_a_verdict_fails_for_probabilities_too_small_for_a_float(nats: float) -> None:
    verdict = verdict_on(evidence(delta=lambda _: nats))
    assert verdict.verdict is VerdictKind.FAIL
    assert {ReasonCode.DELTA_NLL, ReasonCode.KLD} <= {reason.code for reason in verdict.reasons}
    texts = output_set(prompt_set(8), PLAIN)
    with pytest.raises(kv.QualityError, match="mean KLD"):
        kv.assert_divergence_within(scores(texts, lambda _: nats), scores(texts))


def test_a_verdict_fails_for_log_probabilities_far_above_0() -> None:
    verdict = verdict_on(evidence(delta=lambda _: -1e4))
    assert verdict.verdict is VerdictKind.FAIL
    assert {reason.code for reason in verdict.reasons} >= {ReasonCode.NOT_FINITE}


def test_what_cannot_be_paired_is_refused() -> None:
    ours, theirs = some(2)
    with pytest.raises(ValueError, match="texts of different prompts: p1"):
        divergence(ours[:1], theirs)
    with pytest.raises(ValueError, match="two scores for the prompt 'p0'"):
        divergence([ours[0], replace(ours[0])], theirs)


@pytest.mark.parametrize(
    ("ours", "theirs", "position"),
    [((1, 2, 3), (1, 2, 3), None), ((1, 2, 4), (1, 2, 3), 2), ((1, 2), (1, 2, 3), 2), ((), (1,), 0)],
)
def test_outputs_part_at_the_first_token_that_differs(
    ours: tuple[int, ...], theirs: tuple[int, ...], position: int | None
) -> None:
    assert first_divergence(ours, theirs) == position


def test_outputs_are_compared_by_their_tokens() -> None:
    assert first_divergence(output("p", "ba be bin"), output("p", "ba be bol")) == 2
    assert kv.first_divergence is first_divergence
    assert kv.divergence is divergence
