"""The healthy documents of a half, and what damage is made of: their words, tokens, scripts, languages."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from itertools import accumulate
from random import Random
from typing import Literal

from detection.corpus import Document
from detection.drafts import Ids
from detection.tokenizers import QwenTokenizer

SCRIPTS = {
    "LATIN": "Latin",
    "CJK": "Han",
    "HIRAGANA": "Kana",
    "KATAKANA": "Kana",
    "HANGUL": "Hangul",
    "CYRILLIC": "Cyrillic",
    "GREEK": "Greek",
    "ARABIC": "Arabic",
    "HEBREW": "Hebrew",
    "DEVANAGARI": "Devanagari",
    "BENGALI": "Bengali",
    "TAMIL": "Tamil",
    "THAI": "Thai",
    "ARMENIAN": "Armenian",
    "GEORGIAN": "Georgian",
}
"""First words of Unicode names, and the script they stand for."""

STOP_WORDS = {
    "en": "the and of to is in that it for with as are be this on was not or by you",
    "ca": "el la els les que és una amb per dret del al tota seva ha aquesta llibertat pel seua té",
    "cs": "je se na že to jako pro není nebo by jsou který byl jen tak ale když při už má",
    "da": "og at det er en har til ikke på enhver af den de for med skal eller ret hans deres",
    "de": "der die und das ist nicht mit den von ein zu eine werden wird auf dem für sie auch im",
    "es": "el los que una es en por para con se las del no su como más un al ser todo",
    "fi": "ja on ei että se voi tai ovat joka kun myös hän olla mutta niin jos kuin tämä siitä ole",
    "fr": "le la les et des est une dans que pour pas du qui sur un par avec sont cette ce",
    "hu": "az és hogy nem egy is ha van meg csak vagy mint ez azt de minden kell lehet volt való",
    "id": "dan yang atau setiap orang dengan di tidak untuk dari dalam hak ini itu oleh pada berhak adalah",
    "it": "il di che la è per una non sono con gli della nel del le si un alla anche come",
    "nl": "de het een van en is dat niet op te zijn voor met die aan er wordt ook bij om",
    "no": "og at det er en har til ikke på enhver av den de for med skal eller rett hans deres",
    "pl": "nie się jest na że do to jak za od przez oraz który są lub dla po jego być każdy",
    "pt": "que não uma os para com do da em se as por mais um no na ao são dos ser",
    "ro": "și de la în nu că este cu pe care din pentru sau sunt un mai ale are să orice",
    "sv": "och att det som en är inte på för med av den till har ett om eller ska kan var",
    "tr": "bir ve bu için ile olarak da de daha çok olan gibi her değil kadar ne var hakkı herkes veya",
    "vi": "và của là các có được cho không trong một với người những để khi này bạn như đã hoặc",
}
"""Frequent words of languages in Latin letters."""
ENGLISH_KINDS = ("docs-en", "drama", "fortunes", "manual-en", "prose-en", "reasoning")
GUIDE_KINDS = ("errors-explained", "help-text", "how-to", "markdown", "restructured-text")
OTHER_KINDS = ("chat", "classics", "faq", "guide-many", "help-zh", "manual-ja", "manual-zh", "udhr")
RUNNING_KINDS = (*ENGLISH_KINDS, *GUIDE_KINDS, *OTHER_KINDS)
"""How the names of kinds begin that hold running text: not lists, data, messages or verse."""
RARE = 10
"""Documents that a script or language must have to serve in damage."""

SAMPLE = 300
"""Characters of a text that tell its script."""

_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]{{1,2}}\s*|[^\s{_UNSPACED}]+\s*")
_SENTENCE = re.compile(r"(?:[^.!?。！？\n]|[.!?](?=\w))+(?:[.!?。！？]+[\"'”’」)]*\s*|\n\s*|$)")
_CLAUSE = re.compile(r"(?:[^.!?。！？\n,;:，；：]|[.!?,:](?=\w))+[.!?。！？\n,;:，；：]?\s*")


_LETTERS = re.compile(r"[^\W\d_]+")
_ENGLISH_WORD = re.compile(r"[A-Za-z]+(?:['’][a-z]+)?")
_LANGUAGES_OF_WORD: dict[str, list[str]] = defaultdict(list)
for _language, _words in STOP_WORDS.items():
    for _word in _words.split():
        _LANGUAGES_OF_WORD[_word].append(_language)
_WIDE = re.compile(f"[{_UNSPACED}]")
_SENTENCE_ENDS = frozenset(".!?。！？")
_ENDS = {"sentence": _SENTENCE_ENDS, "clause": _SENTENCE_ENDS | frozenset(",;:，；：、"), "word": None}


def words_of(text: str) -> list[str]:
    """Split text into words with the blanks behind them; two characters are a word where no blanks are."""
    return _WORD.findall(text)


def word_ends(text: str) -> list[int]:
    return [match.end() for match in _WORD.finditer(text)]


def sentences_of(text: str) -> list[re.Match[str]]:
    return list(_SENTENCE.finditer(text))


def clauses_of(text: str) -> list[re.Match[str]]:
    return list(_CLAUSE.finditer(text))


def script_of(text: str) -> str | None:
    """Return the script of most letters; Japanese is Kana from a tenth of kana on. None without letters."""
    counts = Counter(_script_of_letter(char) for char in text[:: 1 + len(text) // SAMPLE])
    del counts[None]
    if counts["Kana"] * 10 > counts.total() and counts["Han"]:
        return "Kana"
    return counts.most_common(1)[0][0] if counts.total() else None


def _is_seam(before: str, after: str, ends: frozenset[str] | None) -> bool:
    apart = after[:1].isspace() or before[-1:].isspace() or bool(_WIDE.match(after))
    return apart and (ends is None or "\n" in before or before.rstrip()[-1:] in ends)


@cache
def _script_of_letter(char: str) -> str | None:
    if not char.isalpha():
        return None
    return SCRIPTS.get(unicodedata.name(char, "?").split()[0], "other")


def language_of(text: str) -> str | None:
    """Return the language, in Latin letters, whose frequent words clearly prevail; None where none do."""
    if script_of(text) != "Latin":
        return None
    words = _LETTERS.findall(text.lower())
    hits = Counter(language for word in words for language in _LANGUAGES_OF_WORD.get(word, ()))
    (best, most), (_, second) = [*hits.most_common(2), ("", 0), ("", 0)][:2]
    return best if most * 8 >= len(words) and most >= 1.5 * second and most >= 8 else None


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

    def seams(self, ids: Ids, what: Literal["sentence", "clause", "word"]) -> list[int]:
        """Return the borders at which a sentence, a clause or a word begins, and the end."""
        pieces = [self.piece(token) for token in ids]
        inner = self.borders(ids)[1:-1]
        return [i for i in inner if _is_seam(pieces[i - 1], pieces[i], _ENDS[what])]

    def whole(self, ids: Ids, at: int) -> int:
        """Return the last place up to ``at`` where no character is cut through."""
        return max((border for border in self.borders(ids) if border <= at), default=0)

    def like(self, document: Document) -> list[Document]:
        """Return the documents of a document's kind and script."""
        return self._alike[document.kind, self.script_of(document)]

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
        return Counter(token for document in self.documents for token in document.token_ids)

    @cached_property
    def _heat(self) -> list[float]:
        return list(accumulate((1 + self.token_counts[token]) ** 0.5 for token in self.vocabulary))

    @cached_property
    def _english_words(self) -> tuple[list[str], list[int]]:
        english = (_ENGLISH_WORD.findall(document.text) for document in self.by_language["en"])
        counts = Counter(word.lower() for words in english for word in words)
        return list(counts), list(counts.values())

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
