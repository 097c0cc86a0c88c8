"""Long stretches in which nothing is to be seen are found; layout is left alone."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from verdict_samples import prose

from pytest_kvcache.measures.blanks import BLANKS, CHANGES, INVISIBLE, MIXED_BLANKS, find_blanks
from pytest_kvcache.measures.views import View
from pytest_kvcache.records import Signal


def blanks(text: str) -> list[Signal]:
    return find_blanks(View(text, None))


def test_a_stretch_of_several_blanks_is_found_with_its_place() -> None:
    stretch = " \n\t" * 90
    (signal,) = blanks(prose(1) + stretch + prose(2))
    assert (signal.kind, signal.severity, signal.unit) == ("blanks", "fail", "char")
    assert (signal.start, signal.end) == (len(prose(1)), len(prose(1)) + len(stretch))
    assert signal.evidence.endswith("270 blanks in a row")
    assert signal.evidence.isprintable()


def test_the_limit_holds_on_both_sides_wherever_the_stretch_begins() -> None:
    for before in range(9):
        for at_limit in ("\t" + " " * (BLANKS - 1), " \n" * (MIXED_BLANKS // 2)):
            assert blanks("a" * before + at_limit + "b") != []
            assert blanks("a" * before + at_limit[:-1] + "b") == []
        unseen = ("\u200b\u2060" * INVISIBLE)[:INVISIBLE]
        assert blanks("a" * before + unseen + "b") != []
        assert blanks("a" * before + unseen[:-1] + "b") == []


def test_a_short_stretch_that_changes_often_is_disorder_and_no_layout() -> None:
    assert blanks("a" + (" \n" * CHANGES)[: CHANGES + 1].ljust(MIXED_BLANKS) + "b") != []
    assert blanks("a" + (" \n" * CHANGES)[: CHANGES - 1].ljust(MIXED_BLANKS) + "b") == []


def test_each_stretch_is_reported() -> None:
    text = f"a{' ' * 200}\n{prose(1)}\u200b{' ' * 300}"
    assert [signal.start for signal in blanks(text)] == [1, text.index("\u200b")]


@pytest.mark.parametrize("same", [" " * 500, "\n" * 500, "\u2800" * 500], ids=["spaces", "lines", "fillers"])
def test_one_character_alone_is_left_to_the_detector_of_loops(same: str) -> None:
    assert blanks("Yes." + same) == []


def test_what_takes_no_room_is_found_also_where_it_is_one_character_alone() -> None:
    assert [signal.kind for signal in blanks("Hello." + "\u200b" * 16)] == ["blanks"]


HEALTHY = {
    "an indented line": "def f():\n" + " " * 120 + "return 1",
    "empty pages": "Chapter 1" + "\n" * 40 + " " * 72 + "2\n\n",
    "a wide table": "\n".join(f"{k:<90}{k:>90}" for k in range(20)),
    "an empty form": "Name:" + " " * 60 + "\n\n\n" + "Date:" + " " * 60,
    "zero-width joiners": "👩‍👩‍👧‍👦" * 40,
    "Persian": "می\u200cخواهم می\u200cروم " * 30,
    "soft hyphens": "Do\u00adnau\u00addampf\u00adschiff " * 20,
    "nothing": "",
}


@pytest.mark.parametrize("name", HEALTHY)
def test_layout_is_healthy(name: str) -> None:
    assert blanks(HEALTHY[name]) == []


def test_an_output_without_text_has_none() -> None:
    assert find_blanks(View(None, (1, 2, 3))) == []


@given(st.text(alphabet=st.sampled_from(" \n\t\u200b\ufeff\u00adab"), max_size=900))
def test_places_lie_within_any_text(text: str) -> None:
    for signal in blanks(text):
        assert 0 <= signal.start < signal.end <= len(text)
        assert signal.evidence.isprintable()


def test_a_million_characters_take_no_time_even_if_no_stretch_is_long_enough() -> None:
    start = time.process_time()
    assert blanks((" \n" * 31 + "x") * 16000) == []
    assert time.process_time() - start < 1
