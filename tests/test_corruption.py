"""Random tokens strewn into a text are found; names, units and code are no such thing."""

from __future__ import annotations

import random
import time

import pytest
from healthy_texts import HEALTHY
from hypothesis import given
from test_characters import texts

from pytest_kvcache.measures.characters import Characters
from pytest_kvcache.measures.corruption import find_corruption

PROSE = (
    "In the beginning of the year the people of the town were asked about their plans, and most of them had "
    "none, because the winter was long and the roads were closed. The mayor, who had been away, came back "
    "with a letter that he would read to the council, and those who heard it were not pleased. It was about "
    "the bridge, which should have been built by then, and about the money that the town had lost. "
)
FOREIGN = ["лез", "дел", "词", "ひる", "한글", "مثل", "שלו", "ไทย", "вод", "鬼", "ので", "ใจ"]
ASCII = [
    "Form",
    "_cast",
    ".clone",
    "(void",
    "={",
    ".scss",
    "ToList",
    "_id",
    "@param",
    "$scope",
    "->get",
    "DataSet",
]


def strewn(tokens: list[str], share: float, seed: int = 1) -> str:
    """Glue random tokens to a share of the words of :data:`PROSE`."""
    draw = random.Random(seed)
    words = (PROSE * 2).split()
    return " ".join(word + draw.choice(tokens) if draw.random() < share else word for word in words)


@pytest.mark.parametrize("tokens", [FOREIGN, ASCII], ids=["foreign", "ASCII"])
@pytest.mark.parametrize("seed", range(5))
def test_strewn_tokens_are_found(tokens: list[str], seed: int) -> None:
    text = strewn(tokens, 0.2, seed)
    (signal,) = find_corruption(Characters(text))
    assert (signal.kind, signal.severity, signal.unit) == ("corruption", "fail", "char")
    assert 0 <= signal.start < signal.end <= len(text)


def test_strewn_words_name_their_scripts() -> None:
    (signal,) = find_corruption(
        Characters("He saidдела that the house was 词tall when seen from afar. " + PROSE)
    )
    assert "Cyrillic" in signal.evidence
    assert "дел" in signal.evidence


def test_glued_words_are_shown() -> None:
    (signal,) = find_corruption(Characters(strewn(ASCII, 0.2)))
    assert signal.evidence.startswith("words glued: ")


def test_a_quoted_phrase_of_many_scripts_is_healthy_even_twice() -> None:
    test_string = 'let s = "ศไทย中华Việt Nam";\n'
    assert find_corruption(Characters(test_string + "    fn len() {}\n" * 9 + test_string)) == []


def test_words_of_one_other_script_are_healthy() -> None:
    assert find_corruption(Characters(PROSE + "She called it дача and he called it изба. " * 3)) == []


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_text_is_left_alone(name: str) -> None:
    assert find_corruption(Characters(HEALTHY[name])) == []


@given(texts)
def test_findings_lie_within_any_text(text: str) -> None:
    text = PROSE + text * 5
    for signal in find_corruption(Characters(text)):
        assert 0 <= signal.start < signal.end <= len(text)
        assert signal.evidence.isprintable()


@pytest.mark.parametrize("unit", ["a", "aB", "aБ中", "\ufffda", "of.clone ", "你好世界，"])
def test_the_time_is_linear(unit: str) -> None:
    started = time.perf_counter()
    find_corruption(Characters((unit * 300_000)[:300_000]))
    assert time.perf_counter() - started < 3
