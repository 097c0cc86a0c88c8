"""Text as a healthy model writes it: English sentences from a small grammar, for the stand-in engine."""

from __future__ import annotations

import random
from collections.abc import Iterator

_SENTENCES = (
    "{the} {noun} {did} {the} {noun} .",
    "{when} {the} {noun} {did} {the} {noun} , {the} {adjective} {noun} {went} {where} {the} {noun} .",
    "{the} {adjective} {noun} of {the} {noun} {went} .",
    "It was {adjective} , and {the} {noun} {went} {where} {the} {adjective} {noun} .",
    "{when} it {went} , nobody {did} {the} {noun} .",
    "Nobody {did} {the} {noun} {where} {the} {noun} , but {the} {noun} was {adjective} .",
    "{the} {noun} and {the} {noun} were {adjective} , so they {did} {the} {adjective} {noun} .",
    "They {went} {where} {the} {noun} , which was {adjective} and {adjective} .",
    "{where} {the} {noun} it {went} , though {the} {noun} of {the} {noun} {did} {the} {noun} .",
    "Was {the} {noun} {adjective} ?",
)
_WORDS = {
    "the": "the a this that every their one another its",
    "when": "when after before because while although if once",
    "where": "at beside behind under near above inside from to by",
    "did": (
        "found kept opened sold took forgot carried knew painted saw wanted heard moved followed met loved "
        "feared cleaned held left"
    ),
    "went": "came stayed slept waited fell stood returned grew sang stopped ended began vanished turned ran",
    "adjective": (
        "old quiet green late narrow heavy cold empty bright strange early small proud wooden dark wet "
        "gentle tired new tall"
    ),
    "noun": (
        "harbour lamp teacher window garden letter engine river song market doctor table winter bridge "
        "horse child clock village kitchen road answer dog island ship stone tower forest coat singer "
        "paper morning train bell friend field cat baker king island storm"
    ),
}
_CHOICES = {f"{{{name}}}": words.split() for name, words in _WORDS.items()}


def _vocabulary() -> list[str]:
    """Return all tokens, as tokenizers order them: marks, function words, then what text is about."""
    fixed = {word for sentence in _SENTENCES for word in sentence.split() if word not in _CHOICES}
    words = [word for choices in _CHOICES.values() for word in choices]
    lower = dict.fromkeys([*sorted(word.lower() for word in fixed if word.isalpha()), *words])
    return [".", ",", "?", *(f" {word}" for word in lower), *(f" {word.capitalize()}" for word in lower)]


VOCABULARY = _vocabulary()
_IDS = {token: number for number, token in enumerate(VOCABULARY)}


def lifelike_ids(seed: str, size: int) -> list[int]:
    """Return so many token ids of text without end."""
    tokens = _tokens(random.Random(seed))
    return [_IDS[next(tokens)] for _ in range(size)]


def text_of(ids: list[int]) -> str:
    return "".join(VOCABULARY[number] for number in ids)


def _tokens(dice: random.Random) -> Iterator[str]:
    while True:
        for place, part in enumerate(dice.choice(_SENTENCES).split()):
            word = dice.choice(_CHOICES.get(part, [part]))
            if word.isalpha():
                yield f" {word.capitalize() if place == 0 else word}"
            else:
                yield word
