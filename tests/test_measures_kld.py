"""KLD from the top k is never above the true one, and misses little of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pytest_kvcache.measures.divergence import compare_scores
from pytest_kvcache.measures.kld import Known, bound_kld
from pytest_kvcache.records import Score

Floats = NDArray[np.float64]


def log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def score_of(logprobs: Floats, given: NDArray[np.int64], k: int) -> Score:
    """Return what an engine reports of float64[n, vocabulary]: the k best and the given tokens."""
    order = np.argsort(-logprobs, axis=1, kind="stable")[:, :k]
    return Score(
        "p",
        tuple(given.tolist()),
        np.take_along_axis(logprobs, given[:, None], 1).astype("<f4").tobytes(),
        order.astype("<i4").tobytes(),
        np.take_along_axis(logprobs, order, 1).astype("<f4").tobytes(),
        k,
    )


def engines(
    seed: int, *, n: int = 40, vocabulary: int = 200, sharpness: float = 3.0, noise: float = 0.5
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Return the log-probabilities of a baseline and of a noisy candidate, and given tokens."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, vocabulary)) * sharpness
    baseline = log_softmax(logits)
    candidate = log_softmax(logits + rng.normal(size=logits.shape) * noise)
    return baseline, candidate, rng.integers(vocabulary, size=n)


def exact_kld(baseline: Floats, candidate: Floats) -> Floats:
    return np.asarray((np.exp(baseline) * (baseline - candidate)).sum(axis=1))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(31, 120),
    st.floats(0.1, 8),
    st.floats(0, 6),
)
def test_the_bound_is_never_above_the_exact_divergence(
    seed: int, k_ours: int, k_theirs: int, vocabulary: int, sharpness: float, noise: float
) -> None:
    baseline, candidate, given_ids = engines(
        seed, n=8, vocabulary=vocabulary, sharpness=sharpness, noise=noise
    )
    compared = compare_scores(score_of(candidate, given_ids, k_ours), score_of(baseline, given_ids, k_theirs))
    exact = exact_kld(baseline, candidate)
    assert (compared.klds <= exact + 1e-5 * (1 + exact)).all()
    assert (compared.klds >= 0).all()
    assert ((compared.unseen >= 0) & (compared.unseen <= 1)).all()


def test_with_the_whole_vocabulary_nothing_is_missed() -> None:
    baseline, candidate, given_ids = engines(1)
    compared = compare_scores(score_of(candidate, given_ids, 200), score_of(baseline, given_ids, 200))
    assert compared.klds == pytest.approx(exact_kld(baseline, candidate), abs=1e-5)
    assert compared.unseen == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(("k", "share"), [(1, 0.1), (5, 0.3), (20, 0.55)])
def test_the_more_tokens_are_known_the_less_is_missed(k: int, share: float) -> None:
    baseline, candidate, given_ids = engines(2, n=400, vocabulary=2000)
    compared = compare_scores(score_of(candidate, given_ids, k), score_of(baseline, given_ids, k))
    more = compare_scores(score_of(candidate, given_ids, k + 5), score_of(baseline, given_ids, k + 5))
    exact = exact_kld(baseline, candidate)
    assert share < compared.klds.mean() / exact.mean() < more.klds.mean() / exact.mean() < 1


def test_equal_engines_do_not_diverge() -> None:
    baseline, _, given_ids = engines(3)
    same = score_of(baseline, given_ids, 20)
    assert compare_scores(same, same).klds == pytest.approx(0, abs=1e-6)


def by_hand(ids: list[int], probabilities: list[float]) -> Known:
    return Known(np.array([ids]), np.log(np.array([probabilities])))


def test_tokens_that_both_know_and_one_bucket_make_the_bound() -> None:
    baseline, candidate = by_hand([1, 2], [0.5, 0.3]), by_hand([2, 1], [0.6, 0.2])
    bound = bound_kld(baseline, candidate, np.log([0.2]))
    assert bound.kld[0] == pytest.approx(0.5 * np.log(0.5 / 0.2) + 0.3 * np.log(0.3 / 0.6))
    assert bound.unseen[0] == pytest.approx(0.2)


def test_a_token_missing_in_the_candidates_top_k_is_at_most_as_probable_as_its_last_one() -> None:
    baseline, candidate = by_hand([1], [0.9]), by_hand([2], [0.3])
    merged = bound_kld(baseline, candidate, np.log([1.0])).kld[0]
    assert merged == pytest.approx(0.0, abs=1e-9), "without a cap one bucket holds everything"
    capped = bound_kld(baseline, candidate, np.log([0.3])).kld[0]
    assert capped == pytest.approx(0.9 * np.log(0.9 / 0.3) + 0.1 * np.log(0.1 / 0.7))


def some_known(seed: int, *, k: int, vocabulary: int) -> Known:
    """Return what an engine might say at 30 positions: tokens in any order, some of no probability."""
    rng = np.random.default_rng(seed)
    ids = np.array([rng.permutation(vocabulary)[:k] for _ in range(30)])
    probabilities = rng.dirichlet(np.ones(k + 1), size=30)[:, :k]
    probabilities[rng.random(probabilities.shape) < 0.2] = 0
    with np.errstate(divide="ignore"):
        return Known(ids, np.log(probabilities))


@pytest.mark.parametrize("vocabulary", [20, 40, 400])
@pytest.mark.parametrize("seed", range(5))
def test_every_position_is_compared_as_if_by_itself_and_in_any_order_of_tokens(
    seed: int, vocabulary: int
) -> None:
    baseline, candidate = (some_known(2 * seed + side, k=9 + side, vocabulary=vocabulary) for side in (0, 1))
    cap = np.linspace(-9, -1, 30)
    together = bound_kld(baseline, candidate, cap)
    turned = Known(candidate.ids[:, ::-1], candidate.logprobs[:, ::-1])
    for at in range(30):
        here = slice(at, at + 1)
        alone = bound_kld(
            Known(baseline.ids[here], baseline.logprobs[here]),
            Known(turned.ids[here], turned.logprobs[here]),
            cap[here],
        )
        assert alone.unseen == pytest.approx(together.unseen[here], rel=1e-12)
        assert alone.kld == pytest.approx(together.kld[here], rel=1e-12)


def test_a_given_token_among_the_top_k_counts_once() -> None:
    baseline, candidate, _ = engines(4)
    best = baseline.argmax(axis=1)
    with_best = compare_scores(score_of(candidate, best, 200), score_of(baseline, best, 200))
    assert with_best.klds == pytest.approx(exact_kld(baseline, candidate), abs=1e-5)


@pytest.mark.parametrize("nats", [700.0, 746.0, 1e4, 1e30])
def test_a_probability_too_small_for_a_float_still_has_its_ratio(nats: float) -> None:
    baseline = by_hand([1, 2], [0.5, 0.5])
    shared = Known(np.array([[1, 2]]), np.array([[-nats, 0.0]]))
    assert bound_kld(baseline, shared, np.log([0.5])).kld[0] == pytest.approx(np.log(0.5) + 0.5 * nats)
    elsewhere = by_hand([3], [1.0])
    capped = bound_kld(baseline, elsewhere, np.array([-nats])).kld[0]
    assert capped == pytest.approx(np.log(0.5) + nats)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.integers(0, 5)] * 2, *[st.floats(-(2.0**127), 0, width=32)] * 2),
        min_size=1,
        max_size=20,
    )
)
def test_finite_log_probabilities_have_a_finite_divergence(
    positions: list[tuple[int, int, float, float]],
) -> None:
    """Baseline and candidate name one token each, as their top one and as the given one."""
    ours, theirs = (
        Score(
            "p",
            (9,) * len(positions),
            np.array([each[2 + side] for each in positions], "<f4").tobytes(),
            np.array([each[side] for each in positions], "<i4").tobytes(),
            np.array([each[2 + side] for each in positions], "<f4").tobytes(),
            1,
        )
        for side in (0, 1)
    )
    compared = compare_scores(ours, theirs)
    assert compared.klds.size == len(positions)
    assert np.isfinite(compared.klds).all()
