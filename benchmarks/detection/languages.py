"""What damage needs to know of languages: words, clauses and sentences, scripts, frequent words."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from functools import cache
from typing import Literal

Part = Literal["sentence", "clause", "word"]

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
SAMPLE = 300
"""Characters of a text that tell its script."""

_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]{{1,2}}\s*|[^\s{_UNSPACED}]+\s*")
_SENTENCE = re.compile(r"(?:[^.!?。！？\n]|[.!?](?=\w))+(?:[.!?。！？]+[\"'”’」)]*\s*|\n\s*|$)")
_CLAUSE = re.compile(r"(?:[^.!?。！？\n,;:，；：]|[.!?,:](?=\w))+[.!?。！？\n,;:，；：]?\s*")


_LETTERS = re.compile(r"[^\W\d_]+")
_LANGUAGES_OF_WORD: dict[str, list[str]] = defaultdict(list)
for _language, _words in STOP_WORDS.items():
    for _word in _words.split():
        _LANGUAGES_OF_WORD[_word].append(_language)
_WIDE = re.compile(f"[{_UNSPACED}]")
_SENTENCE_ENDS = frozenset(".!?。！？")
_ENDS: dict[Part, frozenset[str] | None] = {
    "sentence": _SENTENCE_ENDS,
    "clause": _SENTENCE_ENDS | frozenset(",;:，；：、"),
    "word": None,
}


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


def scripts_in(text: str) -> set[str]:
    """Return the scripts of which a text holds any letter."""
    return {script for char in set(text) if (script := _script_of_letter(char))}


def language_of(text: str) -> str | None:
    """Return the language, in Latin letters, whose frequent words clearly prevail; None where none do."""
    if script_of(text) != "Latin":
        return None
    words = _LETTERS.findall(text.lower())
    hits = Counter(language for word in words for language in _LANGUAGES_OF_WORD.get(word, ()))
    (best, most), (_, second) = [*hits.most_common(2), ("", 0), ("", 0)][:2]
    return best if most * 8 >= len(words) and most >= 1.5 * second and most >= 8 else None


def is_seam(before: str, after: str, what: Part) -> bool:
    """Return whether a sentence, a clause or a word begins with ``after``, behind ``before``."""
    apart = after[:1].isspace() or before[-1:].isspace() or bool(_WIDE.match(after))
    ends = _ENDS[what]
    return apart and (ends is None or "\n" in before or before.rstrip()[-1:] in ends)


@cache
def _script_of_letter(char: str) -> str | None:
    if not char.isalpha():
        return None
    return SCRIPTS.get(unicodedata.name(char, "?").split()[0], "other")
