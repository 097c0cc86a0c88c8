"""Beginnings of two engines' own texts are compared exactly where both had read the same tokens."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import log

import pytest

from pytest_kvcache.measures.beginnings import compare_beginnings
from pytest_kvcache.measures.divergence import divergence
from pytest_kvcache.records import Score

REST = 0.05
"""What is left for all tokens but the two that a score names."""


def score(token_ids: Sequence[int], second: int, probability: float, prompt_id: str = "p") -> Score:
    """Score a text whose tokens all have one probability; ``second`` is the next most probable token."""
    n, other = len(token_ids), 1 - REST - probability
    return Score(
        prompt_id,
        tuple(token_ids),
        struct.pack(f"<{n}f", *[log(probability)] * n),
        struct.pack(f"<{2 * n}i", *(i for token in token_ids for i in (token, second))),
        struct.pack(f"<{2 * n}f", *[log(probability), log(other)] * n),
        2,
    )


def kld(*pairs: tuple[float, float]) -> float:
    """Return the KLD of a distribution q from p, given (p, q) for each token."""
    return sum(p * log(p / q) for p, q in pairs)


def test_equal_texts_are_compared_whole() -> None:
    ours, theirs = score((1, 2, 3), 9, 0.6), score((1, 2, 3), 9, 0.8)
    found = compare_beginnings([(ours, theirs)])
    whole = divergence(ours, theirs)
    assert found.positions == 3
    assert found.common.delta_nll.value == whole.delta_nll.value == pytest.approx(log(0.8 / 0.6))
    assert found.reached.kld.value == found.common.kld.value == whole.kld.value


def test_the_position_where_texts_part_counts_for_kld_and_same_top_but_not_for_delta_nll() -> None:
    found = compare_beginnings([(score((1, 5, 6, 7), 2, 0.6), score((1, 2, 3), 5, 0.8))])
    assert found.positions == 2
    assert found.common.delta_nll.value == pytest.approx(log(0.8 / 0.6))
    assert found.reached.same_top.value == 0.5
    # At the first position they share token 1 alone, where they part 2 and 5.
    parting = kld((0.8, 0.35), (0.15, 0.6), (REST, REST))
    assert found.reached.texts[0].klds[1] == pytest.approx(parting, abs=1e-6)


def test_texts_that_part_at_once_have_that_position_and_no_common_token() -> None:
    pairs = [(score((5, 6), 2, 0.6, name), score((2, 3), 5, 0.8, name)) for name in "ab"]
    found = compare_beginnings(pairs)
    assert (found.positions, len(found.reached.texts), len(found.common.texts)) == (2, 2, 0)


def test_a_text_that_ends_where_the_other_goes_on_gives_nothing_beyond_its_end() -> None:
    short, long = score((1, 2), 9, 0.6), score((1, 2, 3), 9, 0.8)
    assert compare_beginnings([(short, long)]).positions == compare_beginnings([(long, short)]).positions == 2
    assert compare_beginnings([(score((), 9, 0.6), long)]).positions == 0


def test_what_stands_after_the_parting_changes_nothing() -> None:
    theirs = score((1, 2, 3, 4), 5, 0.8)
    one, other = (score((1, 5, *rest), 2, 0.6) for rest in ((6, 7), (3, 4, 8)))
    first, second = (compare_beginnings([(each, theirs)]).reached.kld for each in (one, other))
    assert first.value == second.value


def test_each_prompt_counts_once() -> None:
    pairs = [
        (score((1,) * n, 9, p, name), score((1,) * n, 9, 0.8, name))
        for name, n, p in (("a", 9, 0.6), ("b", 1, 0.7))
    ]
    found = compare_beginnings(pairs)
    assert found.positions == 10
    assert found.common.delta_nll.value == pytest.approx((log(0.8 / 0.6) + log(0.8 / 0.7)) / 2)
