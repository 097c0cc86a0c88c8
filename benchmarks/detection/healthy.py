"""Healthy documents: contiguous cuts of real texts, as long as outputs are.

The same downloads give the same bytes: nothing is drawn but by generators seeded with names.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import msgspec

from detection.archives import members
from detection.catalogue import SOURCES
from detection.corpus import HALVES, Document, Half, write_documents
from detection.cuts import Cut, cuts, next_start
from detection.kinds import KINDS, Shelf
from detection.sources import Fetched, fetch, record
from detection.sources_page import sources_page
from detection.tokenizers import QwenTokenizer, load
from pytest_kvcache.files import write_atomically

PER_HALF = 1_600
"""Documents of one kind in one half, at most."""
_EXCERPT = 6_000
"""Characters read of a text for every document that may be taken from it."""
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")
_PAYLOAD = re.compile(r"[A-Za-z0-9+/=]{200}|(\\x[0-9a-fA-F]{2}){24}|(\\u[0-9a-fA-F]{4}){12}")
"""Keys, images, escaped bytes and fillers inside files: no writing, so the whole text is left out."""
TABLE = Path(__file__).parents[2] / "docs" / "detection-sources.md"


def build_healthy(corpus: Path, report: Callable[[str], None] = print, table: Path = TABLE) -> None:
    """Fetch the sources and write the healthy documents of both halves, ``sources.json`` and the table.

    What cannot be fetched is reported on a line each, and its documents are left out. Raises UsageError
    if an archive is broken or the tokenizer's vocabulary is not to be had.
    """
    fetched = _fetch(corpus, report)
    archives = {each.package: corpus / "downloads" / each.archive for each in fetched}
    tokenizer = load(corpus)
    counts: dict[str, Counter[Half]] = {}
    seen: set[str] = set()
    for kind, shelves in KINDS.items():
        works = list(_works(shelves, archives))
        documents = [each for half in HALVES for each in _documents(kind, half, works, tokenizer, seen)]
        write_documents(corpus, documents)
        counts[kind] = Counter(each.half for each in documents)
        report(f"{kind}: " + ", ".join(f"{counts[kind][half]} {half}" for half in HALVES))
    _remove_former_kinds(corpus)
    write_atomically(table, sources_page(fetched, KINDS, counts).encode(), mode=0o644)


def half_of(work: str) -> Half:
    """Return the half that a work belongs to, by its name alone."""
    return HALVES[_number(work) % 2]


def _fetch(corpus: Path, report: Callable[[str], None]) -> list[Fetched]:
    downloads = corpus / "downloads"
    archives = {source: fetch(source, downloads, report) for source in SOURCES}
    fetched = [record(source, archive) for source, archive in archives.items() if archive is not None]
    write_atomically(corpus / "sources.json", msgspec.json.format(msgspec.json.encode(fetched)) + b"\n")
    return fetched


def _remove_former_kinds(corpus: Path) -> None:
    for path in corpus.glob("*/healthy/*.jsonl"):
        if path.stem not in KINDS:
            path.unlink()


class _Work(NamedTuple):
    source: str
    half: Half
    texts: list[str]
    most: int


def _works(shelves: Iterable[Shelf], paths: dict[str, Path]) -> Iterator[_Work]:
    """Yield the works of the shelves whose packages are there, reading each package once."""
    for package, group in groupby(sorted(shelves, key=lambda each: each.package), lambda each: each.package):
        if package in paths:
            found = _files(tuple(group), paths[package])
            yield from (work for shelf, files in found.items() for work in _shelf_works(shelf, files))


def _files(shelves: tuple[Shelf, ...], archive: Path) -> dict[Shelf, list[tuple[str, bytes]]]:
    patterns = {shelf: re.compile(shelf.pattern) for shelf in shelves}
    found: dict[Shelf, list[tuple[str, bytes]]] = {shelf: [] for shelf in shelves}
    for path, content in members(archive):
        for shelf in shelves:
            if patterns[shelf].fullmatch(path):
                found[shelf].append((path, content))
    return {
        shelf: sorted(files, key=lambda file: _number(file[0]))[: shelf.files]
        for shelf, files in found.items()
    }


def _shelf_works(shelf: Shelf, files: Iterable[tuple[str, bytes]]) -> Iterator[_Work]:
    for path, content in files:
        match = re.fullmatch(shelf.pattern, path)
        work = (match and match.groupdict().get("work")) or path
        half = shelf.half or half_of(f"{shelf.package}: {work}")
        if texts := _read(shelf, content):
            yield _Work(f"{shelf.package}: {path}", half, texts, shelf.most)


def _read(shelf: Shelf, content: bytes) -> list[str]:
    try:
        texts = shelf.read(content)
    except ValueError:  # no UTF-8, or no JSON
        return []
    return [text for text in texts if text and not _UNPRINTABLE.search(text) and not _PAYLOAD.search(text)]


def _documents(
    kind: str, half: Half, works: Iterable[_Work], tokenizer: QwenTokenizer, seen: set[str]
) -> Iterator[Document]:
    """Yield documents of a kind, taking one of each work in turn, so that none prevails."""
    drawn = [_shuffled_cuts(work, tokenizer) for work in works if work.half == half]
    order = sorted(
        (
            (place, number, work, cut)
            for number, (work, found) in enumerate(drawn)
            for place, cut in enumerate(found)
        ),
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
    """Return cuts of the work in random order, of twice as many as are wanted if there are."""
    generator = random.Random(work.source)
    found: list[Cut] = []
    for number in generator.sample(range(len(work.texts)), len(work.texts)):
        text = _excerpt(work.texts[number], work.most, generator)
        found += cuts(text, tokenizer, f"{work.source} {number}")
        if len(found) >= 2 * work.most:
            break
    generator.shuffle(found)
    return work, found[: work.most]


def _excerpt(text: str, documents: int, generator: random.Random) -> str:
    """Return a part of a long text, from the start of a line on, that is enough for so many documents."""
    surplus = len(text) - documents * _EXCERPT
    if surplus <= 0:
        return text
    start = next_start(text, generator.randrange(surplus))
    return text[start : start + documents * _EXCERPT]


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
