"""Loops with noise and with running numbers are found; text that repeats itself by design is left alone."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from loop_samples import OPENING, STRANGE, TEMPLATES, UNITS, How, disturbed, noisy_loop

from pytest_kvcache.measures import alignment, near_loops
from pytest_kvcache.measures.degeneration import find_degeneration
from pytest_kvcache.measures.loops import Loop
from pytest_kvcache.measures.near_loops import find_near_loops
from pytest_kvcache.measures.views import View, view_output
from pytest_kvcache.records import Output, Signal

SEEDS = range(8)
WORDS = 250
"""Of each loop."""
AFTER = " After that, my mother closed the window, and nobody spoke of it again. We slept until noon."


def ids_of(text: str) -> tuple[int, ...]:
    return tuple(zlib.crc32(word.encode()) % 50_000 for word in text.split())


def found_in(output: str | tuple[int, ...] | Output) -> list[Signal]:
    return [each for each in find_degeneration(output) if each.kind in ("loop", "near-loop")]


def loops(share: float, how: How, units: list[int]) -> list[str]:
    """Return what follows the opening in texts that end in a loop with noise."""
    return [noisy_loop(UNITS[size], WORDS // size, share, how, seed) for size in units for seed in SEEDS]


def share_found(outputs: list[str] | list[tuple[int, ...]]) -> float:
    return float(np.mean([bool(found_in(output)) for output in outputs]))


# Noise


@pytest.mark.parametrize(
    ("share", "how", "least"),
    [
        (0.02, "replaced", 0.99),
        (0.02, "inserted", 0.97),
        (0.02, "deleted", 0.97),
        (0.05, "replaced", 0.97),
        (0.05, "inserted", 0.9),
        (0.05, "deleted", 0.85),
        (0.1, "replaced", 0.95),
        (0.1, "inserted", 0.75),
        (0.1, "deleted", 0.4),  # words that stand alone between two gaps are laid in wrong columns
    ],
)
def test_a_loop_is_found_in_text_whatever_disturbs_it(share: float, how: How, least: float) -> None:
    texts = [OPENING + loop for loop in loops(share, how, list(UNITS))]
    assert share_found(texts) >= least


@pytest.mark.parametrize(
    ("share", "how", "least"),
    [
        (0.02, "replaced", 0.97),
        (0.05, "replaced", 0.95),
        (0.1, "replaced", 0.9),
        (0.02, "inserted", 0.9),
        (0.02, "deleted", 0.85),
    ],
)
def test_a_loop_is_found_in_token_ids_alone(share: float, how: How, least: float) -> None:
    ids = [ids_of(OPENING + loop) for loop in loops(share, how, list(UNITS))]
    assert share_found(ids) >= least


@pytest.mark.parametrize("how", ["replaced", "inserted", "deleted"])
@pytest.mark.parametrize("words", [15, 28])
def test_its_place_is_true_to_within_a_copy(how: How, words: int) -> None:
    copy = len(UNITS[words])
    found = []
    for seed in SEEDS:
        loop = OPENING + noisy_loop(UNITS[words], 14, 0.03, how, seed)
        for near in find_near_loops(view_output(loop + AFTER)):
            assert abs(near.start - len(OPENING)) <= copy
            assert abs(near.end - len(loop)) <= copy
            found.append(near)
    assert len(found) >= 3


def test_a_loop_of_an_output_is_told_once_and_in_its_text() -> None:
    text = OPENING + noisy_loop(UNITS[15], 12, 0.05, seed=2)
    (signal,) = find_degeneration(Output("p", (), ids_of(text), text, "length"))
    assert (signal.kind, signal.severity, signal.unit) == ("near-loop", "fail", "char")
    assert signal.evidence == '". It is important to note that this doe…" 12 times, 8% of it changed'


def test_tokens_are_looked_at_where_the_text_shows_nothing() -> None:
    dice = random.Random(1)
    ids = disturbed(list(range(7000, 7020)) * 12, 0.03, "replaced", lambda: dice.randrange(5000), dice)
    (loop,) = find_near_loops(View("...", (1, 2, 3, *ids)))
    assert not loop.in_text
    assert abs(loop.start - 3) <= 20
    assert loop.end == 3 + len(ids)


def test_few_copies_that_change_are_suspicious_but_prove_nothing() -> None:
    severities = {
        copies: {
            signal.severity
            for seed in SEEDS
            for signal in found_in(OPENING + noisy_loop(UNITS[28], copies, 0.05, "inserted", seed))
        }
        for copies in (2, 4, 12)
    }
    assert severities[2] == set()
    assert "warn" in severities[4]
    assert severities[12] == {"fail"}


# Numbers

_VISIT = "The museum is open to all visitors who arrive early"
_ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")
_NAMES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")
_PLACES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
NUMBERED = {
    "digits": OPENING + "\n".join(f"{k}. {_VISIT}." for k in range(1, 13)),
    "letters": OPENING + "\n".join(f"{letter}) {_VISIT}." for letter in "abcdefghijkl"),
    "Roman numerals": OPENING + "\n".join(f"{roman}. {_VISIT}." for roman in _ROMAN),
    "words": OPENING + " ".join(f"Sign {name} says that {_VISIT.lower()}." for name in _NAMES),
    "ordinals": OPENING + " ".join(f"The {place} sign says that {_VISIT.lower()}." for place in _PLACES),
    "Chinese numerals": "很久以前，有一座大山，山里有一座小庙。"
    + "".join(f"第{numeral}，我们要努力学习，不能浪费时间。" for numeral in "一二三四五六七八九十"),
    "years": OPENING + " ".join(f"In {year}, {_VISIT.lower()}." for year in range(1990, 2002)),
}


@pytest.mark.parametrize("name", NUMBERED)
def test_a_loop_that_numbers_its_copies_is_found(name: str) -> None:
    text = NUMBERED[name]
    (signal,) = find_degeneration(text)
    assert (signal.kind, signal.severity) == ("near-loop", "fail")
    assert signal.end == len(text)
    assert "0% of it changed" in signal.evidence


# Healthy text


@pytest.mark.parametrize("name", TEMPLATES)
def test_text_that_repeats_itself_by_design_is_healthy(name: str) -> None:
    text = TEMPLATES[name]
    assert find_degeneration(text) == []
    assert find_degeneration(f"{OPENING}\n\n{text}\n\n{OPENING}") == []
    assert find_degeneration(Output("p", (), ids_of(text), text, "length")) == []


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_a_template_says_over_and_over_is_a_loop(name: str) -> None:
    lines = TEMPLATES[name].strip().splitlines()
    assert found_in("\n".join(lines[3:5] * 20)), "its slots no longer change"


# What was asked for, and what the baseline does as well


@pytest.mark.parametrize("words", [9, 15, 28])
def test_a_near_loop_that_the_prompt_orders_or_holds_is_no_finding(words: int) -> None:
    unit = UNITS[words]
    text = noisy_loop(unit, 14, 0.05, seed=0)
    assert [signal.kind for signal in find_degeneration(text)] == ["near-loop"]
    assert find_degeneration(text, prompt=f"Write {unit} 14 times.") == []
    assert find_degeneration(text, prompt=f"Go on: {noisy_loop(unit, 10, 0.05, seed=9)}") == []
    assert find_degeneration(text, prompt=f"Write {unit} 4 times.") != []
    assert find_degeneration(text, prompt=f"Go on: {noisy_loop(UNITS[5], 10, 0.05)}") != []


@pytest.mark.parametrize("words", [9, 15, 28])
def test_a_near_loop_of_the_baseline_too_is_no_finding(words: int) -> None:
    text = noisy_loop(UNITS[words], 14, 0.05, seed=0)
    for beside in (noisy_loop(UNITS[words], 14, 0.05, seed=9), noisy_loop(UNITS[words], 14)):
        assert find_degeneration(text, baseline=OPENING + beside) == []
    other = noisy_loop(UNITS[5], 100, 0.05)
    assert [signal.kind for signal in find_degeneration(text, baseline=other)] == ["near-loop"]


# Long input


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Counts the elements that the two functions which do the work are given."""
    work = dict.fromkeys(("_periods", "_align"), 0)

    def count(name: str) -> Callable[..., object]:
        function = getattr(alignment, name)

        def counting(elements: alignment.Elements, *others: object) -> object:
            work[name] += len(elements)
            return function(elements, *others)

        return counting

    for name in work:
        monkeypatch.setattr(alignment, name, count(name))
    return work


def test_a_loop_of_a_hundred_thousand_words_is_told_once_and_takes_work_in_proportion(
    counted: dict[str, int],
) -> None:
    works = []
    for copies in (3_000, 6_000):
        text = noisy_loop(UNITS[15], copies, 0.05)
        (loop,) = find_near_loops(view_output(text))
        assert (loop.kind, loop.severity) == ("near-loop", "fail")
        assert loop.start <= len(UNITS[15])
        assert loop.end >= len(text) - len(UNITS[15])
        works.append(sum(counted.values()))
    assert works[1] - works[0] <= 2.1 * works[0]


def test_many_near_loops_do_not_each_take_a_walk_over_the_whole_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    walks = []

    def walk(words: list[str]) -> tuple[float, float]:
        walks.append(len(words))
        return shares(words)

    shares = near_loops._shares_among
    monkeypatch.setattr(near_loops, "_shares_among", walk)
    dice = random.Random(1)
    text = ""
    for k in range(12):
        unit = " ".join(dice.sample(STRANGE, 20))
        text += noisy_loop(unit, 12, 0.05, seed=k) + " " + " ".join(dice.choices(STRANGE, k=700)) + " "
    found = find_near_loops(view_output(Output("p", (), ids_of(text), text, "length")))
    assert len(found) == 12
    assert sum(size == len(text.split()) for size in walks) == 1
    assert all(isinstance(each, Loop) for each in found)
