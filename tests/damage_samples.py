"""A small healthy corpus in many scripts and languages, and a tokenizer for it, to be damaged in tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

from detection.corpus import HALVES, Document, Half
from detection.languages import STOP_WORDS
from detection.library import Library
from detection.tokenizers import QwenTokenizer

LETTERS = {
    "Cyrillic": "абвгдежзиклмнопрст",
    "Greek": "αβγδεζηθικλμνξοπρς",
    "Hebrew": "אבגדהוזחטיכלמנסעפצ",
    "Arabic": "ابتثجحخدذرزسشصضطظع",
    "Hangul": "가나다라마바사아자차카타파하",
    "Thai": "กขคงจชซญดตถทนบปผพม",
    "Devanagari": "अआइईउऊएऐओऔकखगघचछजझ",
    "Han": "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来",
}
LANGUAGES = ("en", "de", "es", "it")


def text_of(random: Random, words: list[str], sentences: int) -> str:
    """Sentences of 8 to 14 different words, with a comma in each and every fifth on a new line."""
    text = ""
    for number in range(sentences):
        sentence = random.sample(words, random.randint(8, 14))
        sentence[3] += ","
        text += " ".join(sentence).capitalize() + (".\n" if number % 5 == 4 else ". ")
    return text.strip()


def words_in(script: str) -> list[str]:
    random = Random(script)
    return ["".join(random.choices(LETTERS[script], k=random.randint(3, 7))) for _ in range(150)]


def words_of_language(language: str) -> list[str]:
    random = Random(language)
    made_up = ["".join(random.choices("abcdefghilmnoprstuvz", k=random.randint(4, 9))) for _ in range(60)]
    return STOP_WORDS[language].split() + made_up


def texts() -> Iterator[tuple[str, str]]:
    """Kinds and texts of a small corpus of many scripts and languages."""
    random = Random("texts")
    for number in range(12):
        for script in LETTERS:
            yield "udhr", text_of(random, words_in(script), random.randint(10, 25))
        for language in LANGUAGES[1:]:
            yield "udhr", text_of(random, words_of_language(language), random.randint(12, 25))
        for kind in ("prose-en", "prose-en", "prose-en", "chat", "how-to", "code-python"):
            text = text_of(random, words_of_language("en"), random.randint(12, 30))
            yield kind, text.replace(".", "’s.") if number % 2 else text


def small_tokenizer(all_texts: list[str]) -> QwenTokenizer:
    """Words, with the space before them, are tokens; all else is bytes."""
    words = {word.encode() for text in all_texts for word in re.findall(r" ?[^\W\d_]+", text)}
    longer = sorted(word for word in words if len(word) > 1)
    tokens = [*(bytes([byte]) for byte in range(256)), *longer]
    return QwenTokenizer({token: rank for rank, token in enumerate(tokens)})


def small_libraries() -> dict[Half, Library]:
    tokenizer = small_tokenizer([text for _, text in texts()])
    return {half: Library(list(documents(half, tokenizer)), tokenizer) for half in HALVES}


def documents(half: Half, tokenizer: QwenTokenizer) -> Iterator[Document]:
    for number, (kind, text) in enumerate(texts()):
        ids = tokenizer.encode(text)[:512]
        name = f"{half}-{kind}-{number}"
        yield Document(name, kind, f"a book: {name}", half, tokenizer.decode(ids), ids)
