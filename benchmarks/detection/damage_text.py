"""Damage to characters: bytes read in a wrong encoding, U+FFFD, words of many scripts in one text."""

from __future__ import annotations

from random import Random

from detection.corpus import Document
from detection.drafts import MAX_TOKENS, Draft, join_text
from detection.languages import script_of, word_ends, words_of
from detection.library import Library

Reading = tuple[str, ...]
"""Encodings in which UTF-8 is read; after each but the last, the result is written as UTF-8 again."""

READINGS: tuple[Reading, ...] = (("latin-1",), ("cp1252",), ("gbk",), ("cp1251",))
OTHER_READINGS: tuple[Reading, ...] = (
    *READINGS,
    ("shift_jis",),
    ("cp1252", "cp1252"),
    ("latin-1", "latin-1"),
)
PLACES = 6
"""Damaged characters that a reader would not take for typing errors any more."""


def misread_text(base: Document, random: Random, library: Library) -> Draft | None:
    """Read the whole text in a wrong encoding."""
    return _misread(base, 0, len(base.text), random.choice(READINGS), library)


def misread_stretch(base: Document, random: Random, library: Library) -> Draft | None:
    """Read the text in a wrong encoding from somewhere on, to its end or for a third of it."""
    start = random.randrange(len(base.text) // 2)
    end = random.choice([len(base.text), start + len(base.text) // 3])
    return _misread(base, start, end, random.choice(OTHER_READINGS), library)


def lost_characters(base: Document, random: Random, library: Library) -> Draft | None:
    """Replace characters here and there by U+FFFD."""
    chars = list(base.text)
    start = random.choice([0, len(chars) // 2])
    share = random.choice([0.02, 0.05, 0.1, 0.3])
    places = sorted(random.sample(range(start, len(chars)), round(share * (len(chars) - start))))
    if len(places) < PLACES:
        return None
    for place in places:
        chars[place] = "\ufffd"
    first, last = places[0], places[-1] + 1
    draft = join_text(library.tokenizer, base.text[:first], "".join(chars[first:last]), base.text[last:])
    return draft.scattered(len(places) / (last - first))


def lost_bytes(base: Document, random: Random, library: Library) -> Draft | None:
    """Lose bytes of characters that have several; where there are few such, write runs of U+FFFD."""
    start = random.randrange(len(base.text) // 2)
    rest = base.text[start:]
    if sum(char > "\x7f" for char in rest) < len(rest) / 2:
        return _runs_of_replacement(base, start, random, library)
    share = random.choice([0.01, 0.03, 0.1])
    lost = bytes(byte for byte in rest.encode() if random.random() >= share).decode(errors="replace")
    if lost.count("\ufffd") < PLACES:
        return None
    first, last = lost.index("\ufffd"), lost.rindex("\ufffd") + 1
    draft = join_text(library.tokenizer, base.text[:start] + lost[:first], lost[first:last], lost[last:])
    return draft.scattered(lost.count("\ufffd") / (last - first))


def words_of_many(base: Document, random: Random, library: Library) -> Draft | None:
    """Go on in words of documents in at least 4 scripts, one word at a time."""
    head = _head(base, random)
    sources = [
        random.choice(documents) for documents in _foreign(base, random, library, random.randint(4, 7))
    ]
    pools = [_words_in_other_scripts(source, base) for source in sources]
    soup = "".join(random.choice(random.choice(pools)).strip() + " " for _ in range(MAX_TOKENS // 2))
    most = random.randint(library.size(head) + 96, MAX_TOKENS)
    return join_text(library.tokenizer, head.rstrip() + " ", soup, most=most).labelled(finish_reason="length")


def intruders_of_many(base: Document, random: Random, library: Library) -> Draft | None:
    """Put pieces of 1 to 3 words from 3 to 5 other scripts between the words of the text."""
    head = _head(base, random)
    sources = [
        random.choice(documents) for documents in _foreign(base, random, library, random.randint(3, 5))
    ]
    pools = [_words_in_other_scripts(source, base) for source in sources]
    share = random.uniform(0.2, 0.6)
    mixed: list[str] = []
    for word in words_of(base.text[len(head) :]):
        mixed.append(word)
        if random.random() < share:
            pool = random.choice(pools)
            at = random.randrange(len(pool))
            mixed += [
                piece.strip() + random.choice(["", " "]) for piece in pool[at : at + random.randint(1, 3)]
            ]
    if len(mixed) < 40:
        return None
    return join_text(library.tokenizer, head, "".join(mixed))


def _misread(base: Document, start: int, end: int, reading: Reading, library: Library) -> Draft | None:
    places = [at for at in range(start, end) if base.text[at] > "\x7f"]
    if len(places) < PLACES:
        return None
    start, end = places[0], places[-1] + 1
    damaged = base.text[start:end]
    for encoding in reading:
        damaged = damaged.encode().decode(encoding, errors="replace")
    draft = join_text(library.tokenizer, base.text[:start], damaged, base.text[end:])
    if sum(char > "\x7f" for char in draft.text[draft.start :]) < 2 * PLACES:
        return None
    return draft.scattered(len(places) / (end - start))


def _runs_of_replacement(base: Document, start: int, random: Random, library: Library) -> Draft:
    """Return a text with two to five runs of 3 to 40 U+FFFD."""
    places = sorted(random.sample(range(start, len(base.text)), random.randint(2, 5)))
    pieces = [base.text[a:b] for a, b in zip(places, [*places[1:], len(base.text)], strict=True)]
    runs = ["\ufffd" * random.randint(3, 40) for _ in pieces]
    damaged = "".join(run + piece for run, piece in zip(runs, pieces, strict=True))
    damaged, after = damaged[: len(damaged) - len(pieces[-1])], pieces[-1]
    draft = join_text(library.tokenizer, base.text[: places[0]], damaged, after)
    return draft.scattered(sum(map(len, runs)) / len(damaged))


def _words_in_other_scripts(source: Document, base: Document) -> list[str]:
    own = {None, script_of(base.text)}
    return [word for word in words_of(source.text) if script_of(word) not in own]


def _foreign(base: Document, random: Random, library: Library, count: int) -> list[list[Document]]:
    """Return the documents of ``count`` scripts other than the base's."""
    scripts = sorted(set(library.by_script) - {script_of(base.text)})
    return [library.by_script[script] for script in random.sample(scripts, min(count, len(scripts)))]


def _head(base: Document, random: Random) -> str:
    """Return the healthy beginning of a document, up to a half of it and of a few hundred tokens."""
    ends = word_ends(base.text[:1200])
    return base.text[: ends[round(random.uniform(0.05, 0.5) * len(ends))]]
