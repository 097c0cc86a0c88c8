"""Numbers that run on by one from copy to copy are told from numbers that do as they like."""

from __future__ import annotations

import re

import pytest

from pytest_kvcache.measures.alignment import Alignment
from pytest_kvcache.measures.counting import Counting, find_counting, is_number


def aligned(words: list[str], period: int, start: int = 0) -> Alignment:
    """Say that words repeat with a period from a place on."""
    return Alignment(start, len(words), period, (), 0, 0.0, 1.0, 0, 0, 1.0, 0.0)


def counting_in(text: str, period: int, start: int = 0) -> Counting:
    words = re.findall(r"[一-龥]|\w+|[^\w\s]", text)
    return find_counting(words, aligned(words, period, start))


@pytest.mark.parametrize("word", ["7", "2024", "b", "IV", "xii", "seven", "Third", "FIRST", "三", "firstly"])
def test_people_number_with_digits_letters_numerals_and_words(word: str) -> None:
    assert is_number(word)


@pytest.mark.parametrize("word", ["the", "iiii", "ab", "once", "#", "½", "千"])
def test_other_words_are_no_numbers(word: str) -> None:
    assert not is_number(word)


@pytest.mark.parametrize(
    "numbers",
    [
        "1 2 3 4 5 6",
        "97 98 99 100 101 102",
        "a b c d e f",
        "i ii iii iv v vi",
        "V VI VII VIII IX X",
        "One Two Three Four Five Six",
        "first second third fourth fifth sixth",
        "一 二 三 四 五 六",
    ],
)
def test_a_number_more_in_every_copy_is_full_progress_and_nothing_odd(numbers: str) -> None:
    text = " ".join(f"{number} says the same ." for number in numbers.split())
    assert counting_in(text, 5) == Counting(1.0, 0.0)


def test_a_letter_may_be_a_roman_numeral_too() -> None:
    assert counting_in(" ".join(f"{letter} ) yes" for letter in "ghijk"), 3) == Counting(1.0, 0.0)
    assert counting_in("iv ) yes v ) yes vi ) yes", 3).odd == 0.0


def test_numbers_that_stay_are_neither_progress_nor_odd() -> None:
    assert counting_in("in 1990 he left , " * 6, 5) == Counting(0.0, 0.0)


def test_numbers_of_a_table_are_odd() -> None:
    rows = " ".join(f"people {number} |" for number in (17, 4, 93, 51, 8, 9))
    counting = counting_in(rows, 3)
    assert (counting.progress, counting.odd) == pytest.approx((1 / 5, 4 / 5))


def test_numbers_are_compared_with_those_nearest_to_a_period_before() -> None:
    copies = [
        "1 some day it rained .",
        "2 some day it rained so .",
        "3 day it rained .",
        "4 some day it rained .",
    ]
    assert counting_in(" ".join(copies), 6) == Counting(1.0, 0.0)


def test_only_numbers_of_the_stretch_count() -> None:
    text = "In 1990 and 2003 , 50 people came . " + " ".join(f"{k} says the same ." for k in range(1, 7))
    assert counting_in(text, 5, start=9) == Counting(1.0, 0.0)


def test_text_without_numbers_has_neither() -> None:
    assert counting_in("he says the same . " * 5, 5) == Counting(0.0, 0.0)


def test_a_number_of_any_length_is_read_by_its_last_digits() -> None:
    text = " ".join(f"{'9' * 5000}{k} says the same ." for k in range(6))
    assert counting_in(text, 5) == Counting(1.0, 0.0)
