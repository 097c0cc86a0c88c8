"""Model text never reaches a person's terminal or a CI runner as anything but text."""

from __future__ import annotations

import pytest

from pytest_kvcache.text import printable

HOSTILE = [
    "\x1b[2J\x1b]0;title\x07",
    "\x9b31m",
    "\u202eevil\u2066",
    "line\nline\r\x85\u2028\u2029",
    "\ud800 lone",
    "\x00\x7f",
    "\ufeff\u200b\U000e0041",
]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_every_control_character_is_escaped(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert "\\" in shown
    shown.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::error::owned", "\\x3a:error::owned"),
        ("  ::add-mask::a", "  \\x3a:add-mask::a"),
        ("##[command]x", "\\x23#[command]x"),
        ("see ##vso[task.setvariable]x", "see \\x23#vso[task.setvariable]x"),
    ],
)
def test_a_workflow_command_is_disarmed(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_workflow_command_on_a_later_line_is_no_longer_at_the_start_of_a_line() -> None:
    assert printable("a\n::error::b") == "a\\n::error::b"


@pytest.mark.parametrize(
    "text", ["", "The robot is a robot.", "std::vector", "## Title", "你好，世界", "a\\nb", "é 👍"]
)
def test_harmless_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize("text", [*HOSTILE, "::a", "x" * 30, "\n" * 30])
@pytest.mark.parametrize("limit", [None, 0, 1, 2, 5, 10, 100])
def test_showing_twice_shows_the_same(text: str, limit: int | None) -> None:
    once = printable(text, limit)
    assert printable(once, limit) == once
    assert limit is None or len(once) <= limit


def test_what_is_cut_off_is_marked_and_no_escape_is_cut_in_two() -> None:
    assert printable("abcdef", 6) == "abcdef"
    assert printable("abcdefg", 6) == "abcde…"
    assert printable("a\x1bb", 6) == "a\\x1bb"
    assert printable("ab\x1bcd", 5) == "ab…"


def test_shortening_does_not_read_the_whole_of_a_huge_text() -> None:
    assert printable("a" * 10**8, 10) == "aaaaaaaaa…"
