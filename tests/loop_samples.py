"""Loops with small changes in their copies, and healthy texts that repeat themselves by design."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeVar

from lifelike import VOCABULARY, lifelike_ids, text_of

Item = TypeVar("Item")
How = Literal["replaced", "inserted", "deleted"]

OPENING = (
    "When the letter arrived, my grandmother put down her cup and looked out of the window for a long "
    "time. Nobody at the table dared to ask what it said, so we finished our soup in silence. "
)
UNITS = {
    5: "I do not know why.",
    9: "The people of the city are very good people.",
    15: "It is important to note that this does not mean that you should not do it.",
    28: "The museum opens at nine in the morning, and visitors who arrive early are asked to wait outside "
    "until the doors open, since there are no seats in the hall.",
}
"""Sentences by their number of words, marks left to the words before them."""
STRANGE = [word.strip() for word in VOCABULARY if word.strip().isalpha()]
"""Words that no unit holds, but for a few."""


def disturbed(
    items: Sequence[Item], share: float, how: How, draw: Callable[[], Item], dice: random.Random
) -> list[Item]:
    """Return a sequence with a share of its items replaced, deleted, or followed by another one."""
    return [new for item in items for new in _with_noise(item, dice.random() < share, how, draw)]


def _with_noise(item: Item, is_hit: bool, how: How, draw: Callable[[], Item]) -> Iterator[Item]:
    if not is_hit or how == "inserted":
        yield item
    if is_hit and how != "deleted":
        yield draw()


def noisy_loop(unit: str, copies: int, share: float = 0.0, how: How = "replaced", seed: int = 1) -> str:
    """Return copies of a sentence with a share of their words disturbed."""
    dice = random.Random(seed)
    return " ".join(disturbed(unit.split() * copies, share, how, lambda: dice.choice(STRANGE), dice))


def _sentence(seed: str, words: int) -> str:
    return text_of(lifelike_ids(seed, words)).strip()


_CITIES = (
    *("Berlin", "Hamburg", "Munich", "Cologne", "Frankfurt", "Stuttgart"),
    *("Leipzig", "Essen", "Bremen", "Dresden", "Hanover", "Bonn"),
)
_WORDS = {
    "house": "Haus",
    "tree": "Baum",
    "dog": "Hund",
    "bread": "Brot",
    "water": "Wasser",
    "bridge": "Brücke",
    "river": "Fluss",
    "street": "Straße",
    "window": "Fenster",
    "door": "Tür",
    "table": "Tisch",
    "chair": "Stuhl",
    "book": "Buch",
    "letter": "Brief",
    "clock": "Uhr",
    "bell": "Glocke",
}

TEMPLATES = {
    "a table": "| city | people | area |\n|---|---|---|\n"
    + "".join(f"| {city} | {k * 977 % 3571} | {k * 37 % 893} |\n" for k, city in enumerate(_CITIES, 3)),
    "a JSON list": "[\n"
    + ",\n".join(
        f'  {{"id": {k}, "name": "{STRANGE[k]}", "price": {k * 37 % 91}.50, "tags": []}}' for k in range(14)
    )
    + "\n]",
    "a list of different sentences": "\n".join(f"{k}. {_sentence(f'list {k}', 12)}" for k in range(1, 21)),
    "a list of facts": "\n".join(
        f"{k}. The {STRANGE[k]} of {city} is {STRANGE[-k]}." for k, city in enumerate(_CITIES, 1)
    ),
    "a poem with a refrain": "\n".join(
        _sentence(f"poem {k}", 24)
        + "\nAnd the wind blows over the sea, my dear,\nand the wind blows over the sea."
        for k in range(6)
    ),
    "log lines": "\n".join(
        f"2024-05-0{1 + k % 9}T{k % 24:02}:{k * 17 % 60:02}Z INFO server[{1000 + k * 37 % 997}]: "
        f"{('GET', 'POST', 'PUT')[k % 3]} /api/v1/{STRANGE[k]} {(200, 404, 500)[k % 3]} {k * 13 % 97}ms"
        for k in range(30)
    ),
    "a multiplication table": "\n".join(
        f"{a} times {b} is {a * b}." for a in range(1, 10) for b in range(1, 10)
    ),
    "a bilingual glossary": "\n".join(f"{english} – {german}" for english, german in _WORDS.items()),
}
"""Healthy texts that say the same again and again, with other words in the same places."""
