"""Bytes read in the wrong way are found by reading them in the right one."""

from __future__ import annotations

import pytest
from healthy_texts import HEALTHY
from hypothesis import given
from test_characters import texts

from pytest_kvcache.measures.characters import Characters
from pytest_kvcache.measures.encoding import find_mojibake, find_replacement
from pytest_kvcache.records import Signal

ORIGINALS = {
    "English": "It’s “fine” — don’t worry; he’s there… That’s all, isn’t it? “Yes,” she said. ",
    "French": "L'été dernier, nous étions très fatigués à cause de la chaleur; ça a duré, hélas. ",
    "Russian": "Привет, как дела? Сегодня мы пойдём гулять в парк. ",
    "Chinese": "你好，世界。今天天气很好，我们去公园散步吧。",
    "Japanese": "こんにちは、世界。今日はいい天気ですね。散歩に行きましょう。",
}
CHARSETS = (
    "latin-1",
    "cp1252",
    "cp1250",
    "cp1251",
    "cp1254",
    "koi8-r",
    "mac-roman",
    "cp437",
    "gbk",
    "shift_jis",
)


def misread(text: str, charset: str) -> str:
    return text.encode().decode(charset, "replace")


def findings(text: str) -> list[Signal]:
    characters = Characters(text)
    return find_mojibake(characters) + find_replacement(characters)


@pytest.mark.parametrize("charset", CHARSETS)
@pytest.mark.parametrize("language", ORIGINALS)
def test_utf8_read_in_another_charset_is_found(language: str, charset: str) -> None:
    signals = findings(misread(ORIGINALS[language] * 3, charset))
    assert "fail" in [signal.severity for signal in signals]


def test_mojibake_is_found_in_its_place_with_what_it_said() -> None:
    healthy = "The café is open. "
    text = healthy + misread(ORIGINALS["Russian"], "cp1251") + healthy
    (signal,) = find_mojibake(Characters(text))
    assert (signal.kind, signal.severity, signal.unit) == ("mojibake", "fail", "char")
    assert abs(signal.start - len(healthy)) <= 2
    assert abs(signal.end - (len(text) - len(healthy))) <= 4
    assert "cp1251" in signal.evidence
    assert "Привет" in signal.evidence


def test_what_was_misread_twice_is_found() -> None:
    assert find_mojibake(Characters(misread(misread(ORIGINALS["French"], "latin-1"), "latin-1")))


def test_a_quoted_example_of_mojibake_is_worth_a_warning_at_most() -> None:
    signals = find_mojibake(
        Characters("The apostrophe turns into â€™ when UTF-8 is read as cp1252, é into Ã©, à into Ã .")
    )
    assert [signal.severity for signal in signals] in ([], ["warn"])


def test_lost_characters_are_found() -> None:
    (signal,) = find_replacement(Characters("It\ufffds a na\ufffdve idea."))
    assert (signal.kind, signal.severity, signal.start, signal.end) == ("replacement", "fail", 2, 10)


def test_one_lost_character_is_worth_a_warning() -> None:
    (signal,) = find_replacement(Characters("It\ufffds naive."))
    assert signal.severity == "warn"


@pytest.mark.parametrize("cut", ["\ufffd", "\ufffd\ufffd", "\ufffd\ufffd\ufffd"])
def test_a_character_cut_in_two_by_the_end_is_healthy(cut: str) -> None:
    assert find_replacement(Characters("你好" + cut)) == []
    assert find_replacement(Characters("你好" + cut + "\ufffd" * 3)) != []


@pytest.mark.parametrize("text", [*HEALTHY.values(), *ORIGINALS.values()], ids=[*HEALTHY, *ORIGINALS])
def test_healthy_text_was_read_in_the_right_way(text: str) -> None:
    assert findings(text) == []


@given(texts)
def test_findings_lie_within_any_text(text: str) -> None:
    text *= 5
    for signal in findings(text):
        assert 0 <= signal.start < signal.end <= len(text)
        assert signal.evidence.isprintable()
