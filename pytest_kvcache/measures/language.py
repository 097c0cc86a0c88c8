"""Language flips: a text that begins in one language and goes on in another of the same script.

Needs the extra ``language`` (py3langid); without it there is no such signal, and nothing fails.

The rule: the first third and the last quarter of a text are running text, one of them in a language that is
judged, with a probability of at least .9 among 139, the other in a language that is no relative of it, with
at most .1 for the first one; and the place at which one gives way to the other leaves at most 3 hundredths
of the evidence on the wrong side. Norwegian and Danish, or Croatian and Serbian, are relatives: their texts
are taken for one another.

Identification costs about a microsecond a byte, too much for every output. So the words and the pairs of
letters that the two parts have in common sort out all but a few in a hundred before.

A prompt can ask for a flip ("translate ..."), so that it is a ``warn``. The identifier is that of Lui and
Baldwin, "langid.py: An Off-the-shelf Language Identification Tool" (2012), with a newer model.

Healthy text that this finds holds two languages: manuals translated in part, bilingual dictionaries and
messages, a scene in French; without these it is 1 in 10,000.

Missed: flips in the first third or last quarter, there and back again, texts below 400 characters,
languages written without blanks, relatives, two languages that the identifier knows badly.
"""

from __future__ import annotations

import re
from functools import cache
from math import log, sqrt
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_kvcache.measures.commonwords import TELLING_WORDS
from pytest_kvcache.measures.views import View
from pytest_kvcache.records import Signal

SHORTEST = 400
"""Characters of the shortest text that is judged."""
LONGEST = 2000
"""Characters at the beginning of a text by which its language is told."""
PART = 600
"""Characters of each part that are looked at."""
ALIKE_PAIRS = 0.72
ALIKE_WORDS = 0.22
ALIKE_TELLING = 0.05
"""Parts of one text are alike from these values on: their cosine of pairs of characters, the share of
words of the last one that the first has, how many of them are common words of one language."""
LONGEST_WORD = 16
"""Mean characters per word above which a script puts no blanks between words."""
PROBE = 160
"""Characters at the far ends that must be in two languages before all of the parts are looked at."""
SURE = 0.9
LIKELY = 0.3
"""Probability of the one language, and at least that of the other, which may be less well known."""
MARKUP = 0.12
"""Share of digits, brackets and signs above which a part is code or a table rather than running text."""
TINY = 1e-30
WRONG_SIDE = 0.03
"""Share of the evidence that may speak for the other language, on either side of the flip."""

_JUDGED = (
    "en/pcm fr de es/gl/an/ext/ca/oc pt it nl/af/fy/li sv/no/nn/da/fo is fi et pl cs/sk sl/hr/bs/sr hu ro "
    "tr/az/tk/crh vi id/ms/jv/ace lt/ltg lv sq eu cy ga/gd eo la tl sw so mt "
    "ru/be uk bg/mk kk/ky/tt/ba mn tg ar/arz/ary fa ur ps ug hi/mr/ne/sa"
)
_FAMILY = {code: family for family in _JUDGED.split() for code in family.split("/")}
"""The languages that a text can be said to leave or to enter, each with its relatives."""
_TRANSLATING = re.compile(
    r"translat|\btongue|\blanguages?\b|翻译|翻譯|译成|譯成|语言|語言|перев|übersetz|tradu", re.IGNORECASE
)
"""Words of a prompt that asks for more than one language."""
_NOT_JUDGED = frozenset(["zxx", "zh", "wuu", "yue", "ja", "ko", "th", "lo", "km", "my"])
"""No language, or one written without blanks."""
_MARKUP = re.compile(r"[0-9{}()<>\[\]=_|*#/\\@$%^&+~`]")
_PIECE = re.compile(r"[\s\S]{40,120}?[.!?;:\n]\s+|[\s\S]{120}\S*\s*|[\s\S]+\Z")
"""A sentence, or some words of one."""


Ranking = list[tuple[str, float]]
"""All languages with their probabilities, the most probable first."""


class Identifier(Protocol):
    """What is used of a language identifier."""

    def rank(self, text: str) -> Ranking: ...


def find_language_flip(view: View) -> list[Signal]:
    """Return at most one ``warn`` signal of kind ``language-flip``, from the flip to the end."""
    text = view.text or ""
    if len(text) < SHORTEST:
        return []
    first, last = text[: len(text) // 3][-PART:], text[-(len(text) // 4) :][:PART]
    if _alike(first.lower(), last.lower()) or not (_is_running(first) and _is_running(last)):
        return []
    if _script(first) != _script(last):
        return []
    identifier = _identifier()
    return [] if identifier is None else _flip(text, first, last, identifier)


def asks_for_translation(prompt: str) -> bool:
    """Whether a prompt names languages, so that its answer may be in any, or in several."""
    return _TRANSLATING.search(prompt) is not None


def can_identify() -> bool:
    """Whether the extra ``language`` is installed."""
    return _identifier() is not None


def language_of(text: str, *, shortest: int = 100) -> str | None:
    """Return the language that a text is in, the first of its relatives; None where that is not sure.

    Sure is a probability of at least .9, of running text of at least ``shortest`` characters.
    """
    identifier = _identifier()
    if identifier is None or len(text) < shortest or not _is_running(text):
        return None
    ranking = identifier.rank(text[:LONGEST])
    best = ranking[0][0]
    family = _FAMILY.get(best)
    share = _share(ranking, family) if family else ranking[0][1]
    return (family or best) if best != "zxx" and share >= SURE else None


def _alike(first: str, last: str) -> bool:
    """Whether two parts need no identification: they have the same words, or the same pairs of letters."""
    known, words = set(first.split()), last.split()
    if len(words) * LONGEST_WORD < len(last):
        return True
    same = [word for word in words if word in known]
    telling = [word for word in same if word in TELLING_WORDS]
    if len(same) >= ALIKE_WORDS * len(words) or len(telling) >= max(2, ALIKE_TELLING * len(words)):
        return True
    one, two = _pairs(first), _pairs(last)
    return bool(one @ two >= ALIKE_PAIRS * np.sqrt((one @ one) * (two @ two)))


def _units(text: str) -> NDArray[np.uint16]:
    return np.frombuffer(text.encode("utf-16-le", "surrogatepass"), np.uint16)


def _script(part: str) -> int:
    """Return the page of 128 code points that most letters are from, or lie around."""
    return int(np.median(_units(part))) // 128


def _pairs(text: str) -> NDArray[np.float32]:
    """Return float32[4096]: how often each pair of characters occurs, modulo 64: letters stay apart."""
    units = _units(text) & 63
    return np.bincount((units[:-1] << 6) + units[1:], minlength=4096).astype(np.float32)


@cache
def _identifier() -> Identifier | None:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        return None
    identifier: Identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    return identifier


def _flip(text: str, first: str, last: str, identifier: Identifier) -> list[Signal]:
    if _best(first[:PROBE], identifier) == _best(last[-PROBE:], identifier):
        return []
    one, two = identifier.rank(first), identifier.rank(last)
    if not (_is_left(one, two) or _is_left(two, one)):
        return []
    before, after = one[0][0], two[0][0]
    start = _place(text, before, after, identifier)
    evidence = f"language {before} before, {after} from here on"
    return [] if start is None else [Signal("language-flip", "warn", "char", start, len(text), evidence)]


def _is_running(part: str) -> bool:
    return len(_MARKUP.findall(part)) <= MARKUP * len(part)


def _best(part: str, identifier: Identifier) -> str:
    return identifier.rank(part)[0][0]


def _is_left(one: Ranking, other: Ranking) -> bool:
    """Whether one part is in a language that is judged, and the other in no relative of it."""
    family = _FAMILY.get(one[0][0])
    if family is None or other[0][0] in _NOT_JUDGED or other[0][1] < LIKELY:
        return False
    return _share(one, family) >= SURE and _share(other, family) <= 1 - SURE


def _share(ranking: Ranking, family: str) -> float:
    return sum(share for code, share in ranking if _FAMILY.get(code) == family)


def _place(text: str, one: str, two: str, identifier: Identifier) -> int | None:
    """Return where ``one`` gives way to ``two``, or None if they are mixed.

    Of all boundaries between pieces of about a sentence it is the one with the greatest log-likelihood of
    the text, the pieces before it being in ``one`` and those after it in ``two``.
    """
    pieces = list(_PIECE.finditer(text))
    votes = np.array([_vote(piece[0], one, two, identifier) for piece in pieces])
    before = np.concatenate([[0.0], np.cumsum(votes)])
    at = int(np.argmax(before))
    wrong = -votes[:at].clip(max=0).sum() + votes[at:].clip(min=0).sum()
    if at in (0, len(votes)) or wrong > WRONG_SIDE * np.abs(votes).sum():
        return None
    return pieces[at].start()


def _vote(piece: str, one: str, two: str, identifier: Identifier) -> float:
    """Return by how much the log-likelihood of a piece is greater in ``one`` than in ``two``, in nats.

    The identifier's probabilities are those of log-likelihoods over the root of the length in bytes.
    """
    shares = dict(identifier.rank(piece))
    length = len(piece.encode(errors="surrogatepass"))
    return sqrt(length) * log(max(shares[one], TINY) / max(shares[two], TINY))
