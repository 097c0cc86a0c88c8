"""Scripts that mix or flip are found; texts with reasons for several scripts are left alone."""

from __future__ import annotations

import pytest
from healthy_texts import HEALTHY
from hypothesis import given
from test_characters import texts

from pytest_kvcache.measures.characters import Characters
from pytest_kvcache.measures.scripts import FLIP_LETTERS, find_mixed_scripts, find_script_flips

ENGLISH = "The robot walked into the room and looked around, but nobody had seen it come in through the door"
CHINESE = "机器人走进房间四处张望可是没有人看见它从门口进来大家都在忙着自己的事情"
WORDS = "hello привет 你好 مرحبا नमस्ते สวัสดี 안녕 שלום გამარჯობა"


def test_words_of_many_scripts_are_found_with_their_place() -> None:
    text = ENGLISH + ". " + f"{WORDS} " * 4 + "\n" + ENGLISH
    (signal,) = find_mixed_scripts(Characters(text))
    assert (signal.kind, signal.severity, signal.unit) == ("mixed-scripts", "fail", "char")
    assert WORDS[6:] in text[signal.start : signal.end]
    assert signal.end < text.rindex(ENGLISH)
    assert "Cyrillic" in signal.evidence


def test_a_few_words_of_other_scripts_are_no_mixture() -> None:
    assert find_mixed_scripts(Characters(f"{ENGLISH} {WORDS} {ENGLISH}")) == []


def test_a_text_that_runs_on_in_another_script_is_a_proof() -> None:
    text = f"{ENGLISH}{CHINESE}。{CHINESE}"
    (signal,) = find_script_flips(Characters(text))
    assert (signal.kind, signal.severity, signal.start) == ("script-flip", "fail", len(ENGLISH))
    assert signal.end == len(text)
    assert signal.evidence.startswith("from Latin to Han for good")


def test_a_translation_on_a_line_of_its_own_is_worth_a_warning() -> None:
    (signal,) = find_script_flips(Characters(f"{ENGLISH}.\n\n{CHINESE}。"))
    assert (signal.severity, signal.start) == ("warn", len(ENGLISH) + 3)


def test_a_text_that_comes_back_has_not_flipped() -> None:
    assert find_script_flips(Characters(f"{ENGLISH}\n{CHINESE}\n{ENGLISH}")) == []


def test_a_flip_needs_letters_on_both_sides() -> None:
    long = "б" * FLIP_LETTERS
    assert find_script_flips(Characters(ENGLISH + "\n" + long)) != []
    assert find_script_flips(Characters(ENGLISH + "\n" + long[1:])) == []


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_text_keeps_its_scripts(name: str) -> None:
    characters = Characters(HEALTHY[name])
    assert find_mixed_scripts(characters) == []
    assert find_script_flips(characters) == []


@given(texts)
def test_findings_lie_within_any_text(text: str) -> None:
    characters = Characters(text * 20)
    for signal in find_mixed_scripts(characters) + find_script_flips(characters):
        assert 0 <= signal.start < signal.end <= len(characters.text)
        assert signal.evidence.isprintable()
