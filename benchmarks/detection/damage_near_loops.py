"""Loops that never repeat a copy exactly: numbered ones, and those that paraphrase.

As with exact loops, there are at least 4 copies and at least 64 tokens of them. The label's period is the
tokens of the first copy; the noise of a paraphrase loop is the share of words edited in the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import chain, count, islice
from math import ceil, floor
from random import Random

from detection.corpus import Document
from detection.damage_loops import COPIES, RECOVERY, TOKENS
from detection.drafts import MAX_TOKENS, Draft, join_text
from detection.languages import clauses_of, script_of, sentences_of, words_of
from detection.library import Library

CHARACTERS = (24, 220)
"""Of a repeated statement; a third of it, where it is written in Chinese, Japanese or Korean."""
WORDS = 6
EDITED = (0.15, 0.35)
"""Share of the words that a paraphrase changes."""

_ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV", "XV")
_HAN = "零一二三四五六七八九"
_ORDINALS = (
    *("First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth", "Ninth", "Tenth"),
    *("Eleventh", "Twelfth", "Thirteenth", "Fourteenth", "Fifteenth", "Sixteenth", "Seventeenth"),
)

Numbering = Callable[[int], str]

MARKERS: tuple[Numbering, ...] = (
    lambda n: f"{n}. ",
    lambda n: f"{n}) ",
    lambda n: f"({n}) ",
    lambda n: f"**{n}.** ",
    lambda n: f"Step {n}: ",
    lambda n: f"{chr(ord('a') + (n - 1) % 26)}) ",
    lambda n: f"Q{n}: ",
    lambda n: f"{n}、",
)
"""What stands before a copy in :func:`numbered_list`."""

INTRODUCTIONS: tuple[Numbering, ...] = (
    lambda n: f"{_ORDINALS[(n - 1) % len(_ORDINALS)]}, ",
    lambda n: f"In {1950 + n}, ",
    lambda n: f"Day {n} - ",
    lambda n: f"{_ROMAN[(n - 1) % len(_ROMAN)]}. ",
    lambda n: f"[{n}] ",
    lambda n: f"Chapter {n}: ",
    lambda n: f"{chr(ord('A') + (n - 1) % 26)}. ",
    lambda n: f"{1 + n // 10}.{n % 10} ",
    lambda n: f"Attempt no. {n}: ",
    lambda n: f"{n + 7}:00 - ",
)
HAN_INTRODUCTIONS: tuple[Numbering, ...] = (
    lambda n: f"第{_in_han(n)}，",
    lambda n: f"{_in_han(n)}、",
    lambda n: f"第{n}步：",
    lambda n: f"{1980 + n}年，",
    lambda n: f"（{_in_han(n)}）",
)
"""What stands before a copy in :func:`numbered_prose`."""


def numbered_list(base: Document, random: Random, library: Library) -> Draft | None:
    """Repeat a clause or sentence as the items of a list, one a line or all in one."""
    statement = _statement(base, random)
    if statement is None:
        return None
    start, unit = statement
    marker, separator = random.choice(MARKERS), random.choice(["\n", "\n", "\n\n", " "])
    copies = (f"{marker(n)}{unit}{separator}" for n in count(1))
    return _draft(base, start, copies, random, library)


def numbered_prose(base: Document, random: Random, library: Library) -> Draft | None:
    """Repeat a clause or sentence behind ordinals, years and the like, or with a number counting inside."""
    statement = _statement(base, random)
    if statement is None:
        return None
    start, unit = statement
    first = random.choice([1, 1, 2, random.randint(3, 9)])
    separator = random.choice(["\n", " ", " ", "\n\n"])
    if random.random() < 0.25:
        at = random.choice([match.start() for match in re.finditer(r"\b|(?<=[\u3400-\u9fff])", unit)])
        copies = (
            f"{unit[:at]}{' ' * unit[:at][-1:].isalpha()}{n} {unit[at:].lstrip()}{separator}"
            for n in count(first)
        )
    else:
        introductions = HAN_INTRODUCTIONS if script_of(unit) == "Han" else INTRODUCTIONS
        introduce = random.choice(introductions)
        copies = (f"{introduce(n)}{unit}{separator}" for n in count(first))
    return _draft(base, start, copies, random, library)


def edited_copies(base: Document, random: Random, library: Library) -> Draft | None:
    """Repeat a sentence, each time with other words of it dropped, swapped or replaced."""
    statement = _statement(base, random)
    if statement is None:
        return None
    start, unit = statement
    words, others = words_of(unit + " "), words_of(base.text)
    edits = _edits(words, random)
    copies = chain([unit + " "], ("".join(_edited(words, edits, others, random)) for _ in count()))
    return _draft(base, start, copies, random, library, noise=edits / len(words))


def refilled_frames(base: Document, random: Random, library: Library) -> Draft | None:
    """Repeat a sentence as a frame whose open places take other words of the document each time."""
    statement = _statement(base, random)
    if statement is None:
        return None
    start, unit = statement
    words = words_of(unit + " ")
    open_places = sorted(random.sample(range(len(words)), _edits(words, random)))
    longest = sorted({word for word in words_of(base.text) if word.strip().isalpha()}, key=_by_length)
    fillings = longest[len(longest) // 3 :]
    if len(fillings) < 2 * len(open_places):
        return None
    refilled = ("".join(_refilled(words, open_places, fillings, random)) for _ in count())
    copies = chain([unit + " "], refilled)
    return _draft(base, start, copies, random, library, noise=len(open_places) / len(words))


def _by_length(word: str) -> tuple[int, str]:
    return len(word), word


def _statement(base: Document, random: Random) -> tuple[int, str] | None:
    """Return the place and text, in one line, of a clause or sentence behind a healthy head."""
    shortest, longest = CHARACTERS
    if script_of(base.text) in ("Han", "Kana", "Hangul"):
        shortest, longest = shortest // 3, longest // 3
    cut = random.choice([clauses_of, sentences_of, sentences_of])
    room = len(base.text) // 2
    found = [
        (match.start(), match.group().strip())
        for match in cut(base.text)
        if 0 < match.start() <= room and shortest <= len(match.group().strip()) <= longest
    ]
    found = [(start, unit) for start, unit in found if "\n" not in unit and _is_prose(unit)]
    return random.choice(found) if found else None


def _is_prose(unit: str) -> bool:
    letters = sum(char.isalpha() or char == " " for char in unit)
    return unit[0].isalpha() and letters >= 0.85 * len(unit) and len(words_of(unit)) >= WORDS


def _draft(
    base: Document,
    start: int,
    copies: Iterator[str],
    random: Random,
    library: Library,
    noise: float | None = None,
) -> Draft | None:
    """Return the base up to ``start`` with the copies behind it, most often to the end."""
    head = base.text[:start] if base.text[:start].endswith("\n") else base.text[:start].rstrip() + "\n"
    period = library.size(first := next(copies))
    loop = first + "".join(islice(copies, COPIES - 1))
    least, room = max(TOKENS, library.size(loop)), MAX_TOKENS - library.size(head)
    if room < least:
        return None
    wanted = random.randint(least, room)
    while library.size(loop) < wanted:
        loop += next(copies)
    if random.random() < RECOVERY and library.size(loop) + TOKENS <= room:
        draft = join_text(library.tokenizer, head, loop, base.text[start:])
        return draft.labelled(period=period, noise=noise)
    draft = join_text(library.tokenizer, head, loop, most=library.size(head) + wanted)
    return draft.labelled(period=period, noise=noise, finish_reason="length")


def _edits(words: list[str], random: Random) -> int:
    least, most = EDITED
    return random.randint(ceil(least * len(words)), floor(most * len(words)))


def _edited(words: list[str], edits: int, others: list[str], random: Random) -> list[str]:
    places = set(random.sample(range(len(words)), edits))
    copy: list[str] = []
    for place, word in enumerate(words):
        edit = random.choice(["drop", "swap", "replace"]) if place in places else "keep"
        if edit == "swap" and copy:
            copy.insert(-1, word)
        elif edit == "replace":
            copy.append(random.choice(others))
        elif edit != "drop":
            copy.append(word)
    return copy


def _refilled(words: list[str], places: list[int], fillings: list[str], random: Random) -> list[str]:
    copy = list(words)
    for place, filling in zip(places, random.sample(fillings, len(places)), strict=True):
        copy[place] = re.sub(r"\w+", filling.strip(), words[place], count=1)
    return copy


def _in_han(number: int) -> str:
    tens, ones = divmod(number, 10)
    return (
        (_HAN[tens] if tens > 1 else "") + ("十" if tens else "") + (_HAN[ones] if ones or not tens else "")
    )
