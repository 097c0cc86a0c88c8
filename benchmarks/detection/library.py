"""The healthy documents of a half, and what damage takes from them: tokens, words, texts of one kind."""

from __future__ import annotations

import re
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import accumulate
from random import Random

from detection.corpus import Document
from detection.drafts import Ids
from detection.languages import SCRIPTS, STOP_WORDS, Part, is_seam, language_of, script_of
from detection.tokenizers import QwenTokenizer

ENGLISH_KINDS = ("docs-en", "drama", "fortunes", "manual-en", "prose-en", "reasoning")
GUIDE_KINDS = ("errors-explained", "help-text", "how-to", "markdown", "restructured-text")
OTHER_KINDS = (
    "chat",
    "classics",
    "faq",
    "fortunes-many",
    "guide-many",
    "help-many",
    "help-zh",
    "manual-ja",
    "manual-many",
    "manual-zh",
    "udhr",
)
RUNNING_KINDS = (*ENGLISH_KINDS, *GUIDE_KINDS, *OTHER_KINDS)
"""How the names of kinds begin that hold running text: not lists, data, messages or verse."""
RARE = 10
"""Documents that a script or language must have to serve in damage."""

_ENGLISH_WORD = re.compile(r"\b(?:[a-z]{2,}(?:['’][a-z]+)?|a|I)\b")


def is_running_text(document: Document) -> bool:
    return document.kind.startswith(RUNNING_KINDS)


class Library:
    def __init__(self, documents: Sequence[Document], tokenizer: QwenTokenizer) -> None:
        self.documents = documents
        self.tokenizer = tokenizer
        self.vocabulary = range(min(tokenizer.special_tokens.values()))
        """Ids of all ordinary tokens; special ones follow."""
        self._known: dict[str, tuple[str | None, str | None]] = {}
        self._pieces: dict[int, str] = {}

    def size(self, text: str) -> int:
        """Return the tokens of a text."""
        return len(self.tokenizer.encode(text))

    def piece(self, token: int) -> str:
        """Return a token's text: with U+FFFD where it holds parts of characters."""
        if token not in self._pieces:
            self._pieces[token] = self.tokenizer.decode((token,))
        return self._pieces[token]

    def borders(self, ids: Ids) -> list[int]:
        """Return the places between tokens, ends included, where no character is cut through."""
        whole = [i for i, token in enumerate(ids) if not self.piece(token).startswith("\ufffd")]
        return [*whole, len(ids)]

    def seams(self, ids: Ids, what: Part) -> list[int]:
        """Return the borders at which a sentence, a clause or a word begins, and the end."""
        pieces = [self.piece(token) for token in ids]
        inner = self.borders(ids)[1:-1]
        return [i for i in inner if is_seam(pieces[i - 1], pieces[i], what)]

    def whole(self, ids: Ids, at: int) -> int:
        """Return the last place up to ``at`` where no character is cut through."""
        return max((border for border in self.borders(ids) if border <= at), default=0)

    def like(self, document: Document) -> list[Document]:
        """Return the documents of a document's kind and script."""
        return self._alike[document.kind, self.script_of(document)]

    def akin(self, document: Document) -> list[Document]:
        """Return the running texts in a document's language, or else in its script."""
        same_language = self.by_language.get(self.language_of(document) or "")
        return same_language or self.by_script.get(self.script_of(document) or "") or self.like(document)

    def script_of(self, document: Document) -> str | None:
        return self._traits(document)[0]

    def language_of(self, document: Document) -> str | None:
        return self._traits(document)[1]

    @cached_property
    def by_script(self) -> dict[str, list[Document]]:
        """Documents whose script is known, those of code and tables left out."""
        return self._grouped(self.script_of, set(SCRIPTS.values()))

    @cached_property
    def by_language(self) -> dict[str, list[Document]]:
        return self._grouped(self.language_of, set(STOP_WORDS))

    def tokens_of_script(self, script: str) -> list[int]:
        """Return the tokens that hold letters of a script and, before them, at most a space."""
        return self._tokens_by_script[script]

    def hot_token(self, random: Random) -> int:
        """Draw a token by the square root of how often the healthy documents hold it."""
        return bisect(self._heat, random.random() * self._heat[-1])

    def draw_words(self, random: Random, count: int) -> list[str]:
        """Draw English words by how often the healthy documents hold them."""
        return random.choices(*self._english_words, k=count)

    @cached_property
    def token_counts(self) -> Counter[int]:
        counts: Counter[int] = Counter()
        for document in self.documents:
            counts.update(document.token_ids)
        return counts

    @cached_property
    def _heat(self) -> list[float]:
        return list(accumulate((1 + self.token_counts[token]) ** 0.5 for token in self.vocabulary))

    @cached_property
    def _english_words(self) -> tuple[list[str], list[int]]:
        prose = (doc for doc in self.by_language["en"] if doc.kind.startswith(ENGLISH_KINDS))
        counts = Counter(word for doc in prose for word in _ENGLISH_WORD.findall(doc.text))
        known = {word: times for word, times in counts.items() if times >= RARE}
        return list(known), list(known.values())

    @cached_property
    def _tokens_by_script(self) -> dict[str, list[int]]:
        tokens: dict[str, list[int]] = defaultdict(list)
        for token in self.vocabulary:
            letters = self.piece(token).removeprefix(" ")
            if letters.isalpha():
                tokens[script_of(letters) or ""].append(token)
        return tokens

    @cached_property
    def _alike(self) -> dict[tuple[str, str | None], list[Document]]:
        alike = defaultdict(list)
        for document in self.documents:
            alike[document.kind, self.script_of(document)].append(document)
        return alike

    def _traits(self, document: Document) -> tuple[str | None, str | None]:
        if document.id not in self._known:
            self._known[document.id] = script_of(document.text), language_of(document.text)
        return self._known[document.id]

    def _grouped(self, key: Callable[[Document], str | None], wanted: set[str]) -> dict[str, list[Document]]:
        """Return the running texts by what ``key`` says of them, where that is wanted and not rare."""
        groups: dict[str, list[Document]] = defaultdict(list)
        for document in self.documents:
            if is_running_text(document):
                groups[key(document) or ""].append(document)
        return {name: group for name, group in groups.items() if name in wanted and len(group) >= RARE}
