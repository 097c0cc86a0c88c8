"""Wrong lengths: nothing at all, an end after a few words, no end.

The last two show only beside the baseline's answer. ``share`` is that of the answer that is missing, or of
the text that nobody asked for.
"""

from __future__ import annotations

from random import Random

from detection.corpus import Document
from detection.drafts import MAX_TOKENS, Draft, join_text
from detection.languages import sentences_of, words_of
from detection.library import Library

ANSWER = 48
"""Tokens of a baseline's answer, at least, beside which a few words are an early end."""
SHORT_ANSWER = (60, 500)
"""Characters of a baseline's answer beside which 512 tokens are a runaway."""


def nothing(base: Document, random: Random, library: Library) -> Draft | None:
    """End at once, or after one or two special tokens that leave no text."""
    special = sorted(library.tokenizer.special_tokens.values())[:3]
    ids = tuple(random.choices(special, k=random.choice([0, 1, 2])))
    return _empty(base, "", ids)


def only_blanks(base: Document, random: Random, library: Library) -> Draft | None:
    """Write a few blanks, or special tokens of every kind, and end."""
    if random.random() < 0.7:
        text = "".join(random.choices(" \n\t\u3000", k=random.randint(0, 6)))
        return _empty(base, text, library.tokenizer.encode(text))
    ids = tuple(random.choices(sorted(library.tokenizer.special_tokens.values()), k=random.randint(1, 9)))
    return _empty(base, "", ids)


def cut_short(base: Document, random: Random, library: Library) -> Draft | None:
    """End after the first 1 to 10 tokens of the baseline's answer."""
    if len(base.token_ids) < ANSWER:
        return None
    ids = base.token_ids[: max(1, library.whole(base.token_ids, random.randint(1, 10)))]
    return _ended(base, library.tokenizer.decode(ids), library)


def other_opening(base: Document, random: Random, library: Library) -> Draft | None:
    """End after the first few words of another answer in the same language, or its first word and a stop."""
    if len(base.token_ids) < ANSWER:
        return None
    other = random.choice(library.like(base))
    words = words_of(other.text)[: random.randint(1, 6)]
    text = "".join(words).strip() + random.choice(["", ".", "\n"])
    return _ended(base, text, library) if library.size(text) * 4 <= len(base.token_ids) else None


def stranger_follows(base: Document, random: Random, library: Library) -> Draft | None:
    """Write the baseline's answer and go on with other documents of the same kind."""
    answer = _short_answer(base, random)
    others = "\n\n".join(other.text for other in random.choices(library.like(base), k=12))
    return _runaway(answer, "\n\n" + others, library)


def strangers_follow(base: Document, random: Random, library: Library) -> Draft | None:
    """Write the baseline's answer and go on with a few sentences each of many running texts in its script."""
    answer = _short_answer(base, random)
    pieces: list[str] = []
    for other in random.choices(library.akin(base), k=40):
        sentences = sentences_of(other.text)
        first = random.randrange(len(sentences)) if sentences else 0
        pieces += [match.group() for match in sentences[first : first + random.randint(1, 4)]]
    return _runaway(answer, " " + "".join(pieces), library)


def _empty(base: Document, text: str, ids: tuple[int, ...]) -> Draft:
    return Draft(text, ids, 0, len(text), 1.0, baseline=base.text, finish_reason="stop")


def _ended(base: Document, text: str, library: Library) -> Draft:
    ids = library.tokenizer.encode(text)
    share = 1 - min(1.0, len(ids) / len(base.token_ids))
    return Draft(text, ids, len(text), len(text), share, baseline=base.text, finish_reason="stop")


def _short_answer(base: Document, random: Random) -> str | None:
    """Return the beginning of a document up to the end of a sentence, as a short answer would be."""
    shortest, longest = SHORT_ANSWER
    ends = [match.end() for match in sentences_of(base.text) if shortest <= match.end() <= longest]
    return base.text[: random.choice(ends)].strip() if ends else None


def _runaway(answer: str | None, strange: str, library: Library) -> Draft | None:
    if answer is None:
        return None
    draft = join_text(library.tokenizer, answer, strange)
    if len(draft.token_ids) < MAX_TOKENS - 4:
        return None
    return draft.labelled(baseline=answer, finish_reason="length")
