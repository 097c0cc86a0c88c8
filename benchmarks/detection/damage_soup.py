"""Soups: tokens or words in no order, all over a place of at least 96 tokens or here and there.

Corruption begins with the document or somewhere up to its middle; its noise is the share of tokens
replaced from there to the end. All other damage of this module goes on to the end as well.
"""

from __future__ import annotations

from random import Random

from detection.corpus import Document
from detection.damage_loops import substitute
from detection.drafts import MAX_TOKENS, Draft, join_text, join_tokens
from detection.languages import words_of
from detection.library import Library

LEAST = 96
SMALL = (4, 16)
"""Different tokens or words of a small soup."""
SOUP_SCRIPTS = ("Latin", "Latin", "Latin", "Han", "Cyrillic", "Arabic", "Hangul", "Thai", "Kana", "Hebrew")


def vocabulary_soup(base: Document, random: Random, library: Library) -> Draft | None:
    """Go on in tokens drawn from the whole vocabulary."""
    head = _head(base, random, library)
    return _tail(head, random.choices(library.vocabulary, k=_length(head, random)), library)


def script_soup(base: Document, random: Random, library: Library) -> Draft | None:
    """Go on in letters of one script, frequent tokens more often: by the square root of their frequency."""
    head = _head(base, random, library)
    tokens = library.tokens_of_script(random.choice(SOUP_SCRIPTS))
    weights = [(1 + library.token_counts[token]) ** 0.5 for token in tokens]
    return _tail(head, random.choices(tokens, weights, k=_length(head, random)), library)


def few_tokens(base: Document, random: Random, library: Library) -> Draft | None:
    """Go on in a few tokens of the vocabulary or of the document, in random order."""
    head = _head(base, random, library)
    pool = random.choice([library.vocabulary, base.token_ids])
    few = random.sample(pool, random.randint(*SMALL))
    return _tail(head, random.choices(few, k=_length(head, random)), library)


def few_words(base: Document, random: Random, library: Library) -> Draft | None:
    """Go on in a few words of the document in random order, some more often than others."""
    head = library.tokenizer.decode(_head(base, random, library))
    words = sorted({word.strip() + " " for word in words_of(base.text) if word.strip().isalpha()})
    if len(words) < SMALL[1]:
        return None
    few = random.sample(words, random.randint(*SMALL))
    weights = [random.uniform(0.3, 1) for _ in few]
    soup = "".join(random.choices(few, weights, k=MAX_TOKENS))
    most = random.randint(library.size(head) + LEAST, MAX_TOKENS)
    return join_text(library.tokenizer, head.rstrip() + " ", soup, most=most).labelled(finish_reason="length")


def wrong_tokens(base: Document, random: Random, library: Library, *, noise: float) -> Draft | None:
    """Replace tokens by any of the vocabulary."""
    start = _start_of_corruption(base, random, library)
    damaged = substitute(base.token_ids[start:], random, noise, lambda: random.choice(library.vocabulary))
    return _corrupted(base, start, damaged, noise, library)


def hot_tokens(base: Document, random: Random, library: Library, *, noise: float) -> Draft | None:
    """Replace one to three tokens in a row by what a far too high temperature would give.

    That is, tokens by the square root of their frequency in all healthy documents, unseen ones included.
    """
    start = _start_of_corruption(base, random, library)
    ids = base.token_ids[start:]
    damaged = list(ids)
    wrong: set[int] = set()
    while len(wrong) < round(noise * len(ids)):
        place = random.randrange(len(ids))
        missing = round(noise * len(ids)) - len(wrong)
        wrong.update(range(place, min(len(ids), place + random.randint(1, min(3, missing)))))
    for place in sorted(wrong):
        while damaged[place] == ids[place]:
            damaged[place] = library.hot_token(random)
    return _corrupted(base, start, damaged, noise, library)


def shuffled_words(base: Document, random: Random, library: Library) -> Draft | None:
    """Shuffle the words of the rest of the document."""
    start = _head(base, random, library)
    head = library.tokenizer.decode(start)
    words = [word.strip() + " " for word in words_of(base.text[len(head) :])]
    random.shuffle(words)
    draft = join_text(library.tokenizer, head, "".join(words))
    return draft if len(draft.token_ids) - len(start) >= LEAST else None


def drawn_words(base: Document, random: Random, library: Library) -> Draft | None:
    """Go on in English words, drawn by their frequency and set in sentences of random length."""
    head = library.tokenizer.decode(_head(base, random, library))
    words = library.draw_words(random, MAX_TOKENS)
    salad: list[str] = []
    while words:
        sentence = [words.pop() for _ in range(min(len(words), random.randint(6, 20)))]
        salad.append(" ".join(sentence).capitalize() + random.choice([". ", ". ", "? ", ".\n"]))
    most = random.randint(library.size(head) + LEAST, MAX_TOKENS)
    draft = join_text(library.tokenizer, head.rstrip() + " ", "".join(salad), most=most)
    return draft.labelled(finish_reason="length")


def _head(base: Document, random: Random, library: Library) -> tuple[int, ...]:
    """Return the healthy beginning of a document, up to two thirds of it."""
    at = round(random.uniform(0.05, 2 / 3) * min(len(base.token_ids), MAX_TOKENS - LEAST))
    return base.token_ids[: max(1, library.whole(base.token_ids, at))]


def _length(head: tuple[int, ...], random: Random) -> int:
    return random.randint(LEAST, MAX_TOKENS - len(head))


def _tail(head: tuple[int, ...], damaged: list[int], library: Library) -> Draft:
    return join_tokens(library.tokenizer, head, damaged).labelled(finish_reason="length")


def _start_of_corruption(base: Document, random: Random, library: Library) -> int:
    return random.choice(
        [0, library.whole(base.token_ids, round(random.uniform(0.3, 0.6) * len(base.token_ids)))]
    )


def _corrupted(
    base: Document, start: int, damaged: list[int], noise: float, library: Library
) -> Draft | None:
    """Return the draft if at least 3 tokens are wrong: fewer may be typing errors."""
    if noise * len(damaged) < 3:
        return None
    draft = join_tokens(library.tokenizer, base.token_ids[:start], damaged)
    return draft.scattered(noise).labelled(noise=noise)
