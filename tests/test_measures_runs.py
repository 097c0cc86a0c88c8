"""Every exact repetition is found, none is invented, and no input makes finding it slow."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_kvcache.measures.runs import Run, find_runs, find_tails, least_rotation, sequence_of_ids

UNITS = st.text("ab", min_size=1, max_size=9) | st.text("abcdefgh", min_size=1, max_size=20)
SEQUENCES = st.lists(st.tuples(UNITS, st.integers(1, 12)), max_size=6).map(
    lambda parts: "".join(unit * copies for unit, copies in parts)
)
NESTED = st.tuples(SEQUENCES, st.integers(1, 5)).map(lambda pair: pair[0] * pair[1])


def all_runs(sequence: str, min_length: int) -> set[tuple[int, int]]:
    """Find places of runs by trying every period at every place."""
    found = set()
    for period in range(1, len(sequence) // 4 + 1):
        start = 0
        for at in range(len(sequence) - period + 1):
            if at + period < len(sequence) and sequence[at] == sequence[at + period]:
                continue
            if at + period - start >= max(min_length, 4 * period):
                found.add((start, at + period))
            start = at + 1
    return found


@settings(max_examples=300, deadline=None)
@given(NESTED, st.sampled_from([8, 12, 16, 24]))
def test_runs_are_those_that_trying_everything_finds(sequence: str, min_length: int) -> None:
    runs = find_runs(sequence, min_length=min_length)
    assert {(run.start, run.end) for run in runs} == all_runs(sequence, min_length)
    for run in runs:
        unit = run.unit(sequence)
        assert (unit * (int(run.copies) + 1))[: run.length] == sequence[run.start : run.end]
        assert unit not in (unit + unit)[1:-1], "the unit is no repetition itself"


@pytest.mark.parametrize("min_length", [24, 64, 67])
def test_the_shortest_run_of_any_period_is_found_wherever_it_begins(min_length: int) -> None:
    for period in range(1, 3 * min_length // 2):
        unit = "".join(map(chr, range(100, 100 + period)))
        length = max(min_length, 4 * period)
        run = (unit * length)[:length]
        for start in range(min_length + 1):
            ahead = "".join(map(chr, range(1000, 1000 + start)))
            assert find_runs(f"{ahead}{run}.", min_length=min_length) == [Run(start, start + length, period)]


@settings(max_examples=300, deadline=None)
@given(NESTED, st.sampled_from([8, 24]), st.sampled_from([2.5, 4]))
def test_tails_are_those_that_trying_everything_finds(
    sequence: str, min_length: int, min_copies: float
) -> None:
    expected = set()
    for period in range(1, len(sequence)):
        length = period
        while length < len(sequence) and sequence[-1 - length] == sequence[-1 - length + period]:
            length += 1
        if length >= max(min_length, min_copies * period):
            expected.add(length)
    tails = find_tails(sequence, min_length=min_length, min_copies=min_copies)
    assert {tail.length for tail in tails} == expected
    assert all(tail.end == len(sequence) for tail in tails)


@given(UNITS, st.integers(0, 30))
def test_rotations_of_a_unit_have_the_same_least_rotation(unit: str, by: int) -> None:
    by %= len(unit)
    rotations = [unit[k:] + unit[:k] for k in range(len(unit))]
    assert least_rotation(unit[by:] + unit[:by]) == min(rotations)


def test_a_run_is_given_with_its_place_and_its_smallest_period() -> None:
    assert find_runs("xy" + "abc" * 8 + "ab" + "z", min_length=16) == [Run(2, 28, 3)]


@pytest.mark.parametrize(("copies", "found"), [(3, 0), (4, 1)])
def test_a_long_unit_counts_from_its_fourth_copy_on(copies: int, found: int) -> None:
    unit = "".join(map(chr, range(100, 400)))
    assert len(find_runs(unit * copies, min_length=64)) == found


def test_token_ids_of_any_size_make_a_sequence() -> None:
    ids = [0, 55_300, 128_255, 1_000_000] * 20
    assert find_runs(sequence_of_ids(ids), min_length=64) == [Run(0, 80, 4)]


def fibonacci(n: int) -> str:
    before, word = "a", "ab"
    while len(word) < n:
        before, word = word, word + before
    return word[:n]


def shift_register(n: int) -> str:
    """Return a de Bruijn-like sequence: every window of 20 bits is different."""
    state, bits = 1, []
    for _ in range(n):
        bits.append("ab"[state & 1])
        state = (state >> 1) | (((state ^ (state >> 3)) & 1) << 19)
    return "".join(bits)


HARD: dict[str, Callable[[int], str]] = {
    "one letter": lambda n: "a" * n,
    "one letter, broken in the middle": lambda n: "a" * (n // 2) + "b" + "a" * (n // 2),
    "Fibonacci word": fibonacci,
    "de Bruijn": shift_register,
    "Thue-Morse": lambda n: "".join("ab"[k.bit_count() & 1] for k in range(n)),
    "near squares": lambda n: (("a" * 500 + "b" + "a" * 501 + "b") * (n // 1003 + 1))[:n],
    "growing": lambda n: ("".join("a" * k + "b" for k in range(int(n**0.5))) * 4)[:n],
}


@pytest.mark.parametrize("name", HARD)
def test_no_input_takes_more_than_its_length_should(name: str) -> None:
    sequence = HARD[name](200_000)
    start = time.process_time()
    find_runs(sequence, min_length=64)
    find_tails(sequence, min_length=24, min_copies=2.5)
    assert time.process_time() - start < 4, "it takes 0.4 s for the worst of them"
