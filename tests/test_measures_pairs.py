"""What is paired is of the same prompt and the same text, or it is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from verdict_samples import output, prose, score

from pytest_kvcache.measures.divergence import compare_scores
from pytest_kvcache.measures.penalties import pair_outputs, repetition_excess
from pytest_kvcache.measures.repetition import ngram_repetition
from pytest_kvcache.records import Score

TEXT = output("p", prose(1, 4))


def test_delta_nll_is_how_much_less_probable_the_candidate_finds_the_text() -> None:
    compared = compare_scores(score(TEXT, [-1.0, -2.0, -3.0, -4.0]), score(TEXT, [-0.5, -1.0, -1.5, -2.0]))
    assert compared.delta_nll == pytest.approx((10 - 5) / 4)
    assert compared.tokens == 4


def test_same_top_is_the_share_of_positions_with_the_same_first_choice() -> None:
    compared = compare_scores(score(TEXT, top=[1, 2, 3, 9]), score(TEXT, top=[1, 2, 3, 4]))
    assert compared.same_top == 0.75
    assert compared.delta_nll == 0


def test_only_the_first_of_the_top_tokens_counts() -> None:
    less = np.full(8, -1.5, "<f4").tobytes()
    two = [
        replace(score(TEXT, top=[1, second, 2, second, 3, second, 4, second]), top_logprobs=less, k=2)
        for second in (7, 8)
    ]
    assert compare_scores(*two).same_top == 1


def test_positions_that_are_not_finite_are_counted_and_left_out() -> None:
    compared = compare_scores(
        score(TEXT, [-1.0, math.nan, -math.inf, -1.0]), score(TEXT, [-0.5, -1.0, -1.0, -0.5])
    )
    assert (compared.candidate_non_finite, compared.baseline_non_finite) == (2, 0)
    assert compared.delta_nll == 0.5
    assert compared.is_finite


@pytest.mark.parametrize("of", [score(TEXT, math.nan), score(output("p", ""))], ids=["all-nan", "no-tokens"])
def test_means_of_nothing_are_not_finite(of: Score) -> None:
    assert not compare_scores(of, of).is_finite


@pytest.mark.parametrize(
    "other",
    [score(output("q", TEXT.text)), score(output("p", prose(2, 4))), score(output("p", prose(1, 3)))],
    ids=["prompt", "text", "length"],
)
def test_scores_of_different_texts_are_refused(other: Score) -> None:
    with pytest.raises(ValueError, match="scores of different texts: 'p'"):
        compare_scores(score(TEXT), other)


@pytest.mark.parametrize(
    "broken",
    [replace(score(TEXT), logprobs=b"\0" * 12), replace(score(TEXT), k=0), replace(score(TEXT), k=2)],
    ids=["logprobs", "no-top", "short-top"],
)
def test_scores_of_the_wrong_shape_are_refused(broken: Score) -> None:
    with pytest.raises(ValueError, match="4 tokens"):
        compare_scores(broken, score(TEXT))


@pytest.mark.parametrize(
    ("text", "n", "share"),
    [
        ([1, 2, 3, 4], 2, 0.0),
        ([1, 1, 1, 1, 1], 1, 0.8),
        ([1, 2, 1, 2, 1], 2, 0.5),
        ([1, 2], 4, 0.0),
        ([], 1, 0.0),
        ("the cat, the cat, the cat", 3, 0.5),
        ("我爱你我爱你", 3, 0.25),
    ],
)
def test_ngram_repetition_is_one_minus_distinct_over_total(
    text: str | list[int], n: int, share: float
) -> None:
    assert ngram_repetition(text, n) == pytest.approx(share)


def test_ngrams_are_of_at_least_one_token() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        ngram_repetition("a", 0)


def test_repetition_is_compared_prompt_by_prompt() -> None:
    ours = [output("a", "x y z w " * 20), output("b", prose(1))]
    theirs = [output("b", prose(2)), output("a", prose(3))]
    excess = repetition_excess(ours, theirs)
    assert excess == [pytest.approx(0.92, abs=0.01), 0.0]


def test_outputs_for_different_prompts_are_not_paired() -> None:
    with pytest.raises(ValueError, match="different prompts: a, b"):
        pair_outputs([output("a", "x")], [output("b", "x")])
    with pytest.raises(ValueError, match="two outputs for the prompt 'a'"):
        pair_outputs([output("a", "x"), output("a", "y")], [output("a", "x")])
