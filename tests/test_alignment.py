"""Inexact repetition is found with its period and place, and its copies are compared column by column."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loop_samples import How, disturbed

from pytest_kvcache.measures import alignment
from pytest_kvcache.measures.alignment import (
    LEAST_COPIES,
    LEAST_LENGTH,
    WINDOW,
    Alignment,
    Search,
    find_alignments,
)

SLOT = -1


def search(elements: Sequence[int]) -> Search:
    return find_alignments(np.array(elements, np.int64).view(np.uint64))


def best(elements: Sequence[int]) -> Alignment:
    return max(search(elements).alignments, key=lambda each: each.length)


def unlike(count: int, seed: int = 1) -> list[int]:
    """Return elements of which hardly any are equal."""
    dice = random.Random(seed)
    return [dice.randrange(10**6, 10**7) for _ in range(count)]


def noisy(period: int, copies: int, share: float, how: How = "replaced", seed: int = 1) -> list[int]:
    dice = random.Random(seed)
    return disturbed(list(range(period)) * copies, share, how, lambda: dice.randrange(10**6), dice)


def template(columns: Sequence[int], copies: int) -> list[int]:
    """Return copies in which each :data:`SLOT` is another element every time."""
    fillings = iter(unlike(len(columns) * copies))
    return [next(fillings) if column == SLOT else column for _ in range(copies) for column in columns]


# Where a sequence repeats itself


@pytest.mark.parametrize("period", [2, 3, 7, 20, 60, 180])
def test_a_repetition_is_found_with_its_period_and_place(period: int) -> None:
    elements = [*unlike(50), *(list(range(period)) * (LEAST_LENGTH // period + 5)), *unlike(50, 2)]
    found = best(elements)
    assert (found.period, found.changed, found.covered, found.steady) == (period, 0.0, 1.0, 1.0)
    assert (found.start, found.end) == (50, len(elements) - 50)
    assert sorted(found.unit) == list(range(period))
    assert found.types == period


@pytest.mark.parametrize("how", ["replaced", "inserted", "deleted"])
@pytest.mark.parametrize("period", [12, 40])
def test_edits_shift_the_copies_a_little_but_do_not_hide_them(how: How, period: int) -> None:
    elements = [*unlike(60), *noisy(period, 8, 0.05, how)]
    found = best(elements)
    assert abs(found.period - period) <= period / 8
    assert abs(found.start - 60) <= period
    assert abs(found.end - len(elements)) <= period
    assert 0 < found.changed <= 0.15


def test_what_says_nothing_twice_is_not_suspicious() -> None:
    assert search(unlike(2000)) == Search([], False)
    assert search([]) == Search([], False)
    assert search([7] * (LEAST_LENGTH - 1)) == Search([], False)


def test_phrases_that_come_back_here_and_there_are_no_repetition() -> None:
    dice = random.Random(1)
    elements = [
        each for _ in range(40) for each in [*unlike(dice.randint(5, 30), dice.randrange(10**6)), 1, 2, 3, 4]
    ]
    assert search(elements).alignments == []


def test_two_copies_are_too_few() -> None:
    elements = [*unlike(100), *(list(range(50)) * 2), *unlike(100, 2)]
    assert search(elements).alignments == []


def test_a_repetition_longer_than_a_window_is_found_in_each() -> None:
    elements = [*unlike(WINDOW), *noisy(10, 3 * WINDOW // 10, 0.05)]
    found = search(elements).alignments
    assert min(each.start for each in found) <= WINDOW + 10
    assert max(each.end for each in found) >= len(elements) - 10
    assert len(found) >= 4
    assert all(each.length <= WINDOW for each in found)


# Columns


def test_errors_anywhere_speak_for_a_loop_and_slots_for_a_template() -> None:
    loop = best(noisy(10, 12, 0.1))
    form = best(template([1, 2, 3, 4, SLOT, 5, 6, 7, 8, 9], 12))
    assert loop.changed == pytest.approx(form.changed, abs=0.08), "as much of both is changed"
    assert loop.evenness > 5
    assert form.evenness < -5
    assert (loop.slots, form.slots) == (0, 1)


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_every_column_that_differs_in_all_copies_is_a_slot(slots: int) -> None:
    columns = [*range(4), *[number for k in range(slots) for number in (SLOT, 10 + k, 20 + k, 30 + k)]]
    found = best(template(columns, 8))
    assert found.slots == slots
    assert SLOT not in found.unit
    assert sorted(found.unit) == sorted(column for column in columns if column != SLOT)


def test_with_three_copies_slots_may_be_chance_and_are_counted_apart() -> None:
    found = best(template([*range(10), SLOT, *range(10, 20)], 3))
    assert (found.slots, found.short_slots) == (0, 1)


def test_the_unit_is_what_most_copies_agree_on() -> None:
    copies = [list(range(20)) for _ in range(9)]
    for copy in copies[::3]:
        copy[5] = 99
    found = best([each for copy in copies for each in copy])
    assert sorted(found.unit) == list(range(20))
    assert found.changed == pytest.approx(3 / 180)


def test_steadiness_is_lost_where_copies_are_of_many_lengths() -> None:
    assert best(noisy(30, 8, 0.05, "replaced")).steady > 0.9
    assert best(noisy(30, 8, 0.05, "inserted")).steady < 0.8


# Lags and columns, as they are said to be


@given(st.lists(st.integers(0, 5) | st.integers(0, WINDOW**3), max_size=200))
def test_a_lag_is_the_distance_to_the_last_equal_value(values: list[int]) -> None:
    lags = alignment._lags(np.array(values, np.int64))
    for at, (value, lag) in enumerate(zip(values, lags.tolist(), strict=True)):
        before = [place for place in range(at) if values[place] == value]
        assert lag == (at - before[-1] if before else 0)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=150))
def test_columns_are_compared_one_by_one(laid: list[tuple[int, int]]) -> None:
    """Column by column, what `alignment._compared` does for all of them at once."""
    elements, columns = zip(*laid, strict=True)
    found = alignment._compared(np.array(elements), list(columns), period=8)
    unit, sizes, changes, slots, short_slots = [], 0, 0, 0, 0
    for column in range(13):
        counts = Counter(element for element, place in laid if place == column)
        size = counts.total()
        if size < 3:
            continue
        (element, most), *_ = counts.most_common()
        unit += [element] * (2 * most > size)
        sizes, changes = sizes + size, changes + size - most
        slots += size > 3 and len(counts) >= (size if size < 8 else 0.8 * size)
        short_slots += size == 3 == len(counts)
    assert found["unit"] == tuple(unit)
    assert found["changed"] == changes / max(1, sizes)
    assert (found["slots"], found["short_slots"]) == (slots, short_slots)


# Any input

ELEMENTS = st.one_of(
    st.lists(st.integers(0, 2**64 - 1), max_size=60),
    st.tuples(st.lists(st.integers(0, 5), max_size=30), st.integers(0, 60), st.lists(st.integers(0, 5))).map(
        lambda parts: parts[0] * parts[1] + parts[2]
    ),
    st.lists(st.integers(0, 2), min_size=60, max_size=1500),
)


@given(ELEMENTS)
def test_alignments_lie_within_any_sequence_and_are_the_same_each_time(values: list[int]) -> None:
    elements = np.array(values, np.uint64)
    found = find_alignments(elements)
    assert found == find_alignments(elements)
    assert bool(found.alignments) <= found.suspicious
    for each in found.alignments:
        assert 0 <= each.start < each.end <= len(values)
        assert each.length >= max(LEAST_LENGTH, LEAST_COPIES * each.period)
        assert 0 <= each.changed <= 1
        assert 0 <= each.covered <= 1
        assert 0 < each.steady <= 1
        assert np.isfinite(each.evenness)
        assert set(each.unit) <= set(values[each.start : each.end])
        assert each.types == len(set(values[each.start : each.end]))
