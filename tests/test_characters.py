"""A text's characters know their scripts, whatever the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_kvcache.measures.characters import COMMON, SCRIPTS, Characters

texts = st.text(st.characters(exclude_categories=())) | st.text(
    "aZ б中ラ한µ.\n\ufffdÃ©â€™\ud800🎉", max_size=200
)


@pytest.mark.parametrize(
    ("char", "script"),
    [
        ("a", "Latin"),
        ("ß", "Latin"),
        ("ǆ", "Latin"),
        ("ə", "Latin"),
        ("ế", "Latin"),
        ("Ａ", "Latin"),
        ("λ", "Greek"),
        ("ж", "Cyrillic"),
        ("ש", "Hebrew"),
        ("م", "Arabic"),
        ("हि"[0], "Devanagari"),
        ("ि", "Devanagari"),
        ("த", "Tamil"),
        ("ก", "Thai"),
        ("ა", "Georgian"),
        ("한", "Hangul"),
        ("中", "Han"),
        ("々", "Han"),
        ("の", "Han"),
        ("ー", "Han"),
        ("ﾊ", "Han"),
        ("\U00020000", "Han"),
        ("Ꭰ", "other letters"),
        ("7", "common"),
        ("—", "common"),
        ("。", "common"),
        ("×", "common"),
        ("🎉", "common"),
        ("𝐱", "common"),
        ("\u0301", "common"),
        ("\ud800", "common"),
    ],
)
def test_a_character_has_the_script_of_its_block(char: str, script: str) -> None:
    assert SCRIPTS[Characters(char).scripts[0]] == script


def test_segments_are_runs_of_letters_of_one_script() -> None:
    text = "Москва (Moscow), 東京の夜"
    found = Characters(text).segments
    shown = [text[start:end] for start, end in zip(found.start, found.end, strict=True)]
    assert shown == ["Москва", "Moscow", "東京の夜"]


def test_single_greek_letters_are_symbols() -> None:
    characters = Characters("5 μm and Δx of λόγος")
    assert [SCRIPTS[script] for script in characters.segments.script].count("Greek") == 1
    assert len(characters.switches.place) == 1


def test_a_switch_needs_running_text() -> None:
    text = "kotпривет мир world, мир (world)\nмир"
    switches = Characters(text).switches
    assert [text[place:][:3] for place in switches.place] == ["при", "wor"]
    assert switches.glued.tolist() == [True, False]


@given(texts)
def test_any_text_has_its_characters_and_segments(text: str) -> None:
    characters = Characters(text)
    assert len(characters.codes) == len(characters.scripts) == len(text)
    assert characters.letters.sum() == len(text)
    for start, end, script in zip(*vars_of(characters), strict=True):
        assert script != COMMON
        assert set(characters.scripts[start:end].tolist()) == {script}


def vars_of(characters: Characters) -> tuple[list[int], list[int], list[int]]:
    found = characters.segments
    return found.start.tolist(), found.end.tolist(), found.script.tolist()
