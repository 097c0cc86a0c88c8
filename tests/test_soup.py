"""Tokens and words in random order are found; lists, tables and languages of all kinds are left alone."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_kvcache.measures.soup import VERY_FEW, WORDS, find_small_soup, find_soup
from pytest_kvcache.measures.views import View
from pytest_kvcache.records import Signal

ENDS = ("ing", "or", "ist", "ure", "ty", "al", "ment", "ous", "er", "")
STEMS = [
    f"{a}{b}{c}"
    for a in "bcdfglmnprstvw"
    for b in ("a", "e", "i", "o", "u")
    for c in ("ck", "ll", "rt", "nd")
]


def made_up_words(count: int, seed: int = 1) -> list[str]:
    """Return distinct words that no text has."""
    rng = random.Random(seed)
    return rng.sample([stem + end for stem in STEMS for end in ENDS], count)


def evenly_drawn(count: int, vocabulary: int, seed: int = 1) -> tuple[int, ...]:
    rng = random.Random(seed)
    return tuple(rng.randrange(vocabulary) for _ in range(count))


def like_text(count: int, vocabulary: int, seed: int = 1) -> tuple[int, ...]:
    """Return ids as frequent as those of text are: half of them among the first few hundred."""
    rng = random.Random(seed)
    return tuple(int(vocabulary ** rng.random()) for _ in range(count))


def small(ids: tuple[int, ...], text: str | None = None) -> list[Signal]:
    return find_small_soup(View(text, ids))


# Soup


@pytest.mark.parametrize("vocabulary", [32_000, 49_152, 151_936, 262_144])
def test_tokens_drawn_evenly_from_a_vocabulary_are_found_with_their_place(vocabulary: int) -> None:
    for seed in range(10):
        ids = like_text(160, vocabulary, seed) + evenly_drawn(160, vocabulary, seed)
        (signal,) = find_soup(View(None, ids))
        assert (signal.kind, signal.severity, signal.unit) == ("soup", "fail", "token")
        assert abs(signal.start - 160) <= 64
        assert abs(signal.end - len(ids)) <= 64


@pytest.mark.parametrize("vocabulary", [32_000, 151_936])
def test_tokens_as_frequent_as_those_of_text_are_healthy(vocabulary: int) -> None:
    for seed in range(50):
        assert find_soup(View(None, like_text(512, vocabulary, seed))) == []


def test_pieces_of_words_and_code_are_found_in_the_text() -> None:
    joints = random.Random(1).choices([" "] * 9 + ["", "_", ".", "(", "/", "-", '"', "\\"], k=120)
    soup = "".join(map("".join, zip(made_up_words(120), joints, strict=True)))
    (signal,) = find_soup(View(f"It was a fine day, and we went out. {soup}", None))
    assert (signal.kind, signal.severity, signal.unit) == ("soup", "fail", "char")
    assert "words in no order" in signal.evidence
    assert signal.evidence.isprintable()


def test_a_list_of_words_in_one_line_is_a_mere_warning() -> None:
    (signal,) = find_soup(View(" ".join(made_up_words(WORDS)), None))
    assert signal.severity == "warn"
    assert find_soup(View(" ".join(made_up_words(WORDS - 1)), None)) == []


WORD_LISTS = {
    "a dictionary": "\n".join(f"{word} n. a {word}ish thing" for word in made_up_words(60)),
    "a list of words": "\n".join(made_up_words(200)),
    "names": ", ".join(word.title() for word in made_up_words(200)),
    "JSON of names": str([{"name": word.title()} for word in made_up_words(80)]),
    "a table": "\n".join(f"| {word} | {word[::-1]} |" for word in made_up_words(60)),
    "a key": "".join(made_up_words(60)),
    "a poem": "\n".join(" ".join(made_up_words(6, seed)) + "," for seed in range(20)),
    "Finnish": (
        "Jokaisella on oikeus nauttia kaikista tässä julistuksessa esitetyistä oikeuksista ja "
        "vapauksista ilman minkäänlaista rotuun, väriin, sukupuoleen, kieleen, uskontoon, poliittiseen "
        "tai muuhun mielipiteeseen, kansalliseen tai yhteiskunnalliseen alkuperään, omaisuuteen, "
        "syntyperään tai muuhun tekijään perustuvaa erotusta. Mitään erotusta ei myöskään pidä tehdä sen"
        " maan valtiollisen aseman perusteella."
    ),
    "Chinese": (
        "人人有资格享有本宣言所载的一切权利和自由，不分种族、肤色、性别、语言、宗教、政治或其他见解、"
        "国籍或社会出身、财产、出生或其他身分等任何区别。"
    ),
    "identifiers": "\n".join(f"self.{word}_{word[:2]} = {word[1:]}.do()" for word in made_up_words(50)),
}


@pytest.mark.parametrize("name", WORD_LISTS)
def test_texts_that_say_nothing_twice_are_healthy(name: str) -> None:
    assert find_soup(View(WORD_LISTS[name], None)) == []


# Small soup


@pytest.mark.parametrize("few", [3, 4, 8, VERY_FEW, 20])
def test_a_few_tokens_drawn_by_lot_are_found_with_their_place(few: int) -> None:
    rng = random.Random(few)
    ids = (*range(1000, 1160), *(rng.randrange(few) for _ in range(160)))
    (signal,) = small(ids, "some letters " * 100)
    assert (signal.kind, signal.unit) == ("small-soup", "token")
    assert signal.severity == ("fail" if few <= VERY_FEW else "warn")
    assert abs(signal.start - 160) <= 64
    assert signal.end >= len(ids) - 64


def test_without_a_text_it_is_a_warning_for_digits_are_drawn_by_lot_too() -> None:
    rng = random.Random(1)
    (signal,) = small(tuple(rng.randrange(8) for _ in range(128)))
    assert signal.severity == "warn"


def test_a_few_words_drawn_by_lot_are_found_in_the_text() -> None:
    rng = random.Random(1)
    words = [rng.choice(made_up_words(8)) for _ in range(100)]
    (signal,) = find_small_soup(View("So it is. " + " ".join(words), None))
    assert (signal.severity, signal.unit) == ("fail", "char")
    assert "in random order" in signal.evidence


def in_rows(cells: list[str], columns: int) -> str:
    return "\n".join(" | ".join(cells[at : at + columns]) for at in range(0, len(cells), columns))


LAID_OUT = {
    "yes and no": in_rows(random.Random(1).choices(["yes", "no"], k=200), 5),
    "a matrix": in_rows([str(random.Random(k).randrange(10)) for k in range(300)], 10),
    "binary digits": " ".join(f"{random.Random(k).randrange(256):08b}" for k in range(60)),
    "DNA": "".join(random.Random(1).choices("ACGT", k=900)),
    "a multiplication table": "\n".join(
        f"{a} times {b} is {a * b}" for a in range(1, 10) for b in range(1, 10)
    ),
    "laughing": "ha ha ha haha ha ha hahaha " * 12,
    "counting": "one two three four one two three four " * 20,
    "chess": " ".join(f"{k}. e{k % 8} Nf{k % 7} d{k % 6} Bc{k % 5}" for k in range(60)),
    "a guitar tab": "\n".join(f"{string}|--0--2--3--5--|--3--2--0-----|" for string in "eBGDAE" * 5),
    "ASCII art": "\n".join("".join(random.Random(k).choices("/\\|_ ", k=40)) for k in range(12)),
    "lyrics": "\n".join(["na na na na", "hey hey hey", "goodbye my love", "na na na na", "hey hey"] * 12),
}


@pytest.mark.parametrize("name", LAID_OUT)
def test_few_words_in_an_order_are_healthy(name: str) -> None:
    assert find_small_soup(View(LAID_OUT[name], None)) == []


def test_few_tokens_in_an_order_are_healthy() -> None:
    assert small(tuple([1, 2, 3, 4, 5, 6, 7] * 30), "words " * 99) == []
    rows = [part for row in range(40) for part in (1, 2, row % 7 + 10, 3, row % 5 + 20, 4)]
    assert small(tuple(rows), "words " * 99) == []
    assert small((5,) * 300, "words " * 99) == []


def test_numbers_and_letters_of_several_tokens_are_no_soup() -> None:
    ids = evenly_drawn(200, 12)
    assert small(ids, "words without an order " * 20) != []
    assert small(ids, "words without an order " * 20 + "0.1415 926535 8979 " * 5) == []
    assert small(ids, "ܟܠ ܚܕ ܐܝܬܠܗ " * 12) == []


# Any input


@given(
    st.lists(st.integers(0, 30) | st.integers(0, 1_114_111), max_size=300), st.none() | st.text(max_size=400)
)
def test_places_lie_within_any_output(ids: list[int], text: str | None) -> None:
    for view in (View(text, tuple(ids)), View(text, None)):
        for signal in find_soup(view) + find_small_soup(view):
            size = len(ids) if signal.unit == "token" else len(text or "")
            assert 0 <= signal.start < signal.end <= size
            assert signal.evidence.isprintable()


@pytest.mark.parametrize(
    "text",
    [" ".join(made_up_words(2000)) * 60, "a b " * 250_000, "0a" * 500_000, "f" * 1_000_000, "\n" * 1_000_000],
    ids=["words", "two", "codes", "hex", "lines"],
)
def test_a_million_characters_take_seconds(text: str) -> None:
    start = time.process_time()
    find_soup(View(text, None))
    find_small_soup(View(text, None))
    assert time.process_time() - start < 20


def test_a_million_tokens_take_seconds() -> None:
    start = time.process_time()
    assert find_soup(View(None, evenly_drawn(1_000_000, 150_000))) != []
    assert small(evenly_drawn(1_000_000, 12), "words " * 300_000) != []
    assert time.process_time() - start < 30
