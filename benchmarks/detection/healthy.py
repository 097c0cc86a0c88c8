"""Healthy documents: contiguous cuts of real texts, as long as outputs are.

The same downloads give the same bytes: nothing is drawn but by generators seeded with names.
"""

from __future__ import annotations

import hashlib
import random
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from heapq import nsmallest
from pathlib import Path
from typing import NamedTuple

import msgspec
from detection.archives import members
from detection.corpus import HALVES, Document, Half, write_documents
from detection.kinds import KINDS, SOURCES, Shelf
from detection.sources import Fetched, fetch, licence_table, record
from detection.tokenizers import QwenTokenizer, load

from pytest_kvcache.files import write_atomically

SHORTEST = 32
LONGEST = 512
PER_HALF = 1_600
"""Documents of one kind in one half, at most."""
PER_WORK = 60
_CHARACTERS_PER_TOKEN = 8
_BREAK = re.compile(r"\n\s*|(?<=[.!?。！？]) *")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")


class Cut(NamedTuple):
    """A contiguous piece of a text, ``start`` in characters."""

    start: int
    text: str
    token_ids: tuple[int, ...]


def build_healthy(corpus: Path, report: Callable[[str], None] = print) -> None:
    """Fetch the sources and write the healthy documents of both halves, with ``sources.json``.

    What cannot be fetched is reported on a line each, and its documents are left out. Raises UsageError
    if the tokenizer's vocabulary is not to be had.
    """
    downloads = corpus / "downloads"
    archives = {source: fetch(source, downloads, report) for source in SOURCES}
    fetched = [record(source, archive) for source, archive in archives.items() if archive is not None]
    write_atomically(corpus / "sources.json", msgspec.json.format(msgspec.json.encode(fetched)) + b"\n")
    paths = {each.package: downloads / each.archive for each in fetched}
    tokenizer = load(corpus)
    seen: set[str] = set()
    for kind, shelves in KINDS.items():
        works = list(_works(shelves, paths))
        documents = [each for half in HALVES for each in _documents(kind, half, works, tokenizer, seen)]
        write_documents(corpus, documents)
        counts = ", ".join(f"{sum(each.half == half for each in documents)} {half}" for half in HALVES)
        report(f"{kind}: {counts}")


def half_of(work: str) -> Half:
    """Return the half that a work belongs to, by its name alone."""
    return HALVES[_number(work) % 2]


def cuts(text: str, tokenizer: QwenTokenizer, seed: str) -> Iterator[Cut]:
    """Cut a text into pieces that do not overlap, of SHORTEST to LONGEST tokens.

    A piece begins where a line or sentence does, and ends where its length is reached, as outputs do,
    or with the text.
    """
    generator = random.Random(seed)
    text = unicodedata.normalize("NFC", text)
    start = 0
    while start < len(text):
        start += len(text[start : start + 200]) - len(text[start : start + 200].lstrip("\n"))
        piece, ids = _head(text[start : start + LONGEST * _CHARACTERS_PER_TOKEN], tokenizer, _length(generator))
        if len(ids) >= SHORTEST:
            yield Cut(start, piece, ids)
        following = _BREAK.search(text, start + max(1, len(piece)))
        start = following.end() if following and following.end() > start else len(text)


def _length(generator: random.Random) -> int:
    """Draw a length: an eighth is short, a quarter is cut off at the limit."""
    where = generator.random()
    if where < 1 / 8:
        return generator.randrange(SHORTEST, 128)
    return generator.randrange(128, LONGEST) if where < 3 / 4 else LONGEST


def _head(window: str, tokenizer: QwenTokenizer, length: int) -> tuple[str, tuple[int, ...]]:
    """Return the first ``length`` tokens of a text, fewer if the last is but a part of a character."""
    ids = tokenizer.encode(window[: length * _CHARACTERS_PER_TOKEN])[:length]
    while ids and not window.startswith(piece := tokenizer.decode(ids)):
        ids = ids[:-1]
    return (piece, ids) if ids else ("", ())


class _Work(NamedTuple):
    source: str
    half: Half
    texts: list[str]


def _works(shelves: Iterable[Shelf], paths: dict[str, Path]) -> Iterator[_Work]:
    for shelf in shelves:
        if (archive := paths.get(shelf.package)) is None:
            continue
        pattern = re.compile(shelf.pattern)
        matching = ((path, content) for path, content in members(archive) if pattern.fullmatch(path))
        for path, content in nsmallest(shelf.files, matching, key=lambda member: _number(member[0])):
            match = pattern.fullmatch(path)
            work = (match and match.groupdict().get("work")) or path
            half = shelf.half or half_of(f"{shelf.package}: {work}")
            if texts := _read(shelf, content):
                yield _Work(f"{shelf.package}: {path}", half, texts)


def _read(shelf: Shelf, content: bytes) -> list[str]:
    try:
        texts = shelf.read(content)
    except UnicodeDecodeError:
        return []
    return [text for text in texts if text and not _UNPRINTABLE.search(text)]


def _documents(
    kind: str, half: Half, works: Iterable[_Work], tokenizer: QwenTokenizer, seen: set[str]
) -> Iterator[Document]:
    """Yield documents of a kind, taking one of each work in turn, so that none prevails."""
    drawn = [_shuffled_cuts(work, tokenizer) for work in works if work.half == half]
    order = sorted(
        ((place, number, work, cut) for number, (work, found) in enumerate(drawn) for place, cut in enumerate(found)),
        key=lambda each: each[:2],
    )
    count = 0
    for _, _, work, cut in order:
        digest = hashlib.sha256(cut.text.encode()).hexdigest()
        if digest in seen:
            continue
        seen.add(digest)
        yield Document(f"{kind}-{digest[:12]}", kind, work.source, half, cut.text, cut.token_ids)
        count += 1
        if count == PER_HALF:
            return


def _shuffled_cuts(work: _Work, tokenizer: QwenTokenizer) -> tuple[_Work, list[Cut]]:
    found = [
        cut for number, text in enumerate(work.texts) for cut in cuts(text, tokenizer, f"{work.source} {number}")
    ]
    random.Random(work.source).shuffle(found)
    return work, found[:PER_WORK]


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])


if __name__ == "__main__":
    build_healthy(Path(sys.argv[1]))
