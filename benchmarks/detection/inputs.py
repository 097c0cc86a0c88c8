"""Inputs of any length for the scaling curve: healthy text, and what could make a detector slow.

Each is made by a function of the number of tokens. A text has four characters for a token.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import cycle, islice

from detection.corpus import Document
from pytest_kvcache.measures.views import BYTES_PER_TOKEN
from pytest_kvcache.records import Output

Maker = Callable[[int], Output | str | Sequence[int]]

VOCABULARY = 151_643
HEALTHY = "healthy documents, ids and text"


def makers(healthy: Sequence[Document]) -> dict[str, Maker]:
    """Return the inputs by name; healthy text is made of these documents, one after the other."""
    return {
        HEALTHY: lambda n: joined(healthy, n),
        "one line of prose": lambda n: _characters(n, (d.text.replace("\n", " ") for d in cycle(healthy))),
        "JSON records": lambda n: _characters(n, _records()),
        "one word": lambda n: "".join(random.Random(n).choices("abcdefghijklmnopqrstuvwxyz", k=_size(n))),
        "newlines": lambda n: "\n" * _size(n),
        "a…a, text": lambda n: "a" * _size(n),
        "(ab)…(ab), text": lambda n: "ab" * (_size(n) // 2),
        "Fibonacci word, text": lambda n: _fibonacci_word(_size(n)),
        "Thue–Morse word, text": lambda n: _thue_morse(_size(n)),
        "a…a, ids": lambda n: [7] * n,
        "(ab)…(ab), ids": lambda n: [7, 8] * (n // 2),
        "a…a b a…a, ids": lambda n: [7] * (n // 2) + [8] + [7] * (n // 2),
        "Fibonacci word, ids": lambda n: [ord(char) for char in _fibonacci_word(n)],
        "Thue–Morse word, ids": lambda n: [ord(char) for char in _thue_morse(n)],
        "de Bruijn, 2 ids": lambda n: _de_bruijn(n, 2),
        "de Bruijn, 16 ids": lambda n: _de_bruijn(n, 16),
        "random ids": lambda n: random.Random(n).choices(range(VOCABULARY), k=n),
        "20 random ids": lambda n: random.Random(n).choices(range(20), k=n),
        "distinct ids": lambda n: list(range(n)),
        "loop of 300 ids, 5 % noise": lambda n: _noisy_loop(n, 300),
        "loop of n / 3 ids, 5 % noise": lambda n: _noisy_loop(n, n // 3),
    }


def joined(documents: Sequence[Document], tokens: int, start: int = 0) -> Output:
    """Return documents one after the other, from the ``start``-th on, cut after so many tokens.

    The text is cut where that share of the last document ends.
    """
    ids: list[int] = []
    texts: list[str] = []
    for document in islice(cycle(documents), start % len(documents), None):
        room = tokens - len(ids)
        if document.token_ids:
            share = min(1.0, room / len(document.token_ids))
            texts.append(document.text[: round(share * len(document.text))])
            ids.extend(document.token_ids[:room])
        if len(ids) >= tokens:
            break
    return Output("joined", (), tuple(ids), "".join(texts), "length")


def _size(tokens: int) -> int:
    return BYTES_PER_TOKEN * tokens


def _characters(tokens: int, texts: Iterable[str]) -> str:
    size, length = _size(tokens), 0
    parts: list[str] = []
    for text in texts:
        parts.append(text)
        length += len(text)
        if length >= size:
            break
    return " ".join(parts)[:size]


def _records() -> Iterator[str]:
    chance = random.Random(1)
    while True:
        yield json.dumps(
            {"id": chance.randrange(10**6), "name": f"n{chance.random():.6f}", "tags": ["a", "b"]}
        )


def _fibonacci_word(size: int) -> str:
    one, two = "a", "ab"
    while len(two) < size:
        one, two = two, two + one
    return two[:size]


def _thue_morse(size: int) -> str:
    word = "a"
    while len(word) < size:
        word += word.translate({ord("a"): "b", ord("b"): "a"})
    return word[:size]


def _de_bruijn(size: int, letters: int) -> list[int]:
    """Return the first ids of a sequence in which no k ids in a row occur twice, for the least k.

    The sequence is the concatenation of Lyndon words in order (Fredricksen and Maiorana, 1978).
    """
    order = 1
    while letters**order < size:
        order += 1
    found: list[int] = []
    word = [-1]
    while word and len(found) < size:
        word[-1] += 1
        if order % len(word) == 0:
            found.extend(word)
        word = (word * (order // len(word) + 1))[:order]
        while word and word[-1] == letters - 1:
            word.pop()
    return found[:size]


def _noisy_loop(size: int, period: int) -> list[int]:
    chance = random.Random(size)
    unit = chance.choices(range(VOCABULARY), k=max(1, period))
    return [
        chance.randrange(VOCABULARY) if chance.random() < 0.05 else token
        for token in islice(cycle(unit), size)
    ]
