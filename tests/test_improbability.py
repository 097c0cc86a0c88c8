"""What the baseline would not have written is found, however hard its own text is to predict."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from pytest_kvcache.measures.improbability import (
    PROOF,
    PROOF_WINDOW,
    SHORTEST,
    SUSPICION,
    find_improbable,
)
from pytest_kvcache.records import Score

Values = NDArray[np.float64] | Sequence[float]


def score(surprise: Values, top: Values, k: int = 20) -> Score:
    """Return a score of tokens that are by ``surprise`` nats less probable than the first choice."""
    first = np.asarray(top, dtype=float)
    choices = first[:, None] - np.arange(k)
    return Score(
        "p",
        tuple(range(first.size)),
        (first - np.asarray(surprise)).astype("<f4").tobytes(),
        np.zeros((first.size, k), "<i4").tobytes(),
        choices.astype("<f4").tobytes(),
        k,
    )


def test_a_stretch_that_the_baseline_would_not_write_is_found_with_its_place() -> None:
    surprise = np.zeros(300)
    surprise[120:250] = 6.0
    (signal,) = find_improbable(score(surprise, np.full(300, -0.1)))
    assert (signal.kind, signal.severity, signal.unit) == ("improbable", "fail", "token")
    assert abs(signal.start - 120) < PROOF_WINDOW
    assert abs(signal.end - 250) < PROOF_WINDOW
    assert signal.evidence == "up to 6.0 nats per token less probable than what the baseline would write"


@pytest.mark.parametrize(
    ("mean", "severities"), [(SUSPICION - 0.01, []), (SUSPICION + 0.01, ["warn"]), (PROOF + 0.01, ["fail"])]
)
def test_the_limits_hold_on_both_sides(mean: float, severities: list[str]) -> None:
    signals = find_improbable(score(np.full(100, mean), np.full(100, -1.0)))
    assert [signal.severity for signal in signals] == severities


def test_text_that_is_hard_to_predict_is_healthy() -> None:
    hard = np.full(200, -9.0)
    assert find_improbable(score(np.zeros(200), hard)) == []
    assert find_improbable(score(np.tile([3.0, 0.0], 100), hard)) == []


def test_a_few_improbable_tokens_are_healthy() -> None:
    surprise = np.zeros(200)
    surprise[50:55] = 12.0
    assert find_improbable(score(surprise, np.full(200, -0.5))) == []


def test_two_stretches_are_two_findings() -> None:
    surprise = np.zeros(500)
    surprise[50:150] = surprise[350:450] = 7.0
    assert len(find_improbable(score(surprise, np.full(500, -0.5)))) == 2


def test_one_choice_for_each_token_suffices() -> None:
    assert find_improbable(score(np.full(100, 5.0), np.full(100, -1.0), k=1)) != []


def test_too_short_an_output_is_not_judged() -> None:
    assert find_improbable(score(np.full(SHORTEST - 1, 20.0), np.full(SHORTEST - 1, -1.0))) == []
    assert find_improbable(score([], [])) == []


def test_impossible_tokens_are_worst_and_undefined_ones_say_nothing() -> None:
    impossible = score(np.full(100, np.inf), np.full(100, -1.0))
    assert [signal.severity for signal in find_improbable(impossible)] == ["fail"]
    undefined = score(np.full(100, np.nan), np.full(100, -1.0))
    assert find_improbable(undefined) == []


def test_a_score_that_does_not_fit_its_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match=r"4 and 0 log-probabilities for 4 tokens of 'p', k=2"):
        find_improbable(Score("p", (1, 2, 3, 4), np.zeros(4, "<f4").tobytes(), b"", b"", 2))


@given(
    arrays.arrays(np.float32, st.integers(0, 200), elements=st.floats(width=32)),
    st.integers(1, 3),
)
def test_places_lie_within_any_score(logprobs: NDArray[np.float32], k: int) -> None:
    top = np.tile(logprobs[:, None], k).astype("<f4")
    given_one = Score("p", tuple(range(logprobs.size)), logprobs.tobytes(), b"", top.tobytes(), k)
    for signal in find_improbable(given_one):
        assert 0 <= signal.start < signal.end <= logprobs.size


def test_a_million_tokens_take_no_time() -> None:
    start = time.process_time()
    assert len(find_improbable(score(np.full(1_000_000, 5.0), np.full(1_000_000, -1.0), k=1))) == 1
    assert time.process_time() - start < 2
