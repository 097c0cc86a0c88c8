"""Flips: a text goes on in another script or another language, for no reason that can be read in it.

The first third is clean. What follows in the other language has at least 96 tokens, and is whole
sentences of a healthy document of the same half.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from detection.corpus import Document
from detection.drafts import MAX_TOKENS, Draft, join_text
from detection.languages import language_of, script_of, scripts_in, sentences_of, word_ends
from detection.library import Library

LEAST = 96

Tell = Callable[[str], str | None]


def script_for_good(base: Document, random: Random, library: Library) -> Draft | None:
    """Go on in another script between two sentences, to the end."""
    head = _head(base.text, random, words=False)
    return _flip(head, _other_script(base, random, library), "", script_of, library)


def script_in_mid_sentence(base: Document, random: Random, library: Library) -> Draft | None:
    """Go on in another script behind any word; in half of the cases the text returns."""
    head = _head(base.text, random, words=True)
    return _flip(head, _other_script(base, random, library), _return(base, head, random), script_of, library)


def language_for_good(base: Document, random: Random, library: Library) -> Draft | None:
    """Go on in another language of the same script between two sentences, to the end."""
    head = _head(base.text, random, words=False)
    return _flip(head, _other_language(base, random, library), "", language_of, library)


def language_for_a_while(base: Document, random: Random, library: Library) -> Draft | None:
    """Go on in another language behind any clause or word; in half of the cases the text returns."""
    head = _head(base.text, random, words=True)
    other = _other_language(base, random, library)
    return _flip(head, other, _return(base, head, random), language_of, library)


def _flip(head: str, other: str, after: str, tell: Tell, library: Library) -> Draft | None:
    """Return the draft if its parts are long enough, and clearly of two scripts or languages."""
    room = MAX_TOKENS - library.size(head)
    if after:
        other = _shortened(other, max(LEAST, room * 2 // 3), library)
    if library.size(head) < LEAST // 2 or library.size(other) < LEAST or room < LEAST:
        return None
    draft = join_text(library.tokenizer, head.rstrip() + " ", other.strip() + " ", after)
    before, flipped = tell(draft.text[: draft.start]), tell(draft.text[draft.start : draft.end])
    is_clear = before is not None and flipped is not None and before != flipped
    return draft if is_clear and draft.start >= len(draft.text) / 3 else None


def _shortened(text: str, most: int, library: Library) -> str:
    """Leave sentences out at the end until a text has ``most`` tokens."""
    while library.size(text) > most:
        text = "".join(match.group() for match in sentences_of(text)[:-1])
    return text


def _other_script(base: Document, random: Random, library: Library) -> str:
    script = random.choice(sorted(set(library.by_script) - scripts_in(base.text)))
    return _sentences(random.choice(library.by_script[script]), random)


def _other_language(base: Document, random: Random, library: Library) -> str:
    own = library.language_of(base)
    if own is None:
        return ""
    language = random.choice(sorted(set(library.by_language) - {own}))
    return _sentences(random.choice(library.by_language[language]), random)


def _sentences(document: Document, random: Random) -> str:
    """Return a document from a sentence in its first half on."""
    starts = [match.start() for match in sentences_of(document.text)]
    return document.text[random.choice(starts[: 1 + len(starts) // 2]) :] if starts else ""


def _head(text: str, random: Random, *, words: bool) -> str:
    """Return the beginning of a text up to a sentence or a word between its third and its end."""
    ends = [match.end() for match in sentences_of(text)] if not words else word_ends(text)
    wanted = random.uniform(0.35, 0.7) * min(len(text), 1500)
    return text[: min(ends, key=lambda end: abs(end - wanted), default=0)]


def _return(base: Document, head: str, random: Random) -> str:
    return base.text[len(head) :] if random.random() < 0.5 else ""
