"""The page of sources: what was drawn from which package, under which licence, and how much of each kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from detection.corpus import HALVES, Half
from detection.kinds import Shelf
from detection.markdown import markdown_table
from detection.sources import Fetched


def sources_page(
    fetched: Iterable[Fetched],
    kinds: Mapping[str, Sequence[Shelf]],
    counts: Mapping[str, Mapping[Half, int]],
) -> str:
    """Return the page in markdown; ``counts`` are documents by kind and half."""
    total = [sum(count.get(half, 0) for count in counts.values()) for half in HALVES]
    documents = [_kind_row(kind, counts[kind], kinds[kind]) for kind in sorted(counts)]
    packages = [
        [each.package, each.client, each.version, each.licence, _drawn(each.package, kinds), each.sha256[:16]]
        for each in sorted(fetched, key=lambda each: (each.client, each.package))
    ]
    return f"""# Sources of the healthy documents

Written by `python -m detection build`; how texts are chosen, cut and split is told in
[detection-corpus.md](detection-corpus.md). A package in italics serves both halves with different works.

## Kinds

{markdown_table(["kind", *HALVES, *(f"{half} from" for half in HALVES)], documents)}

{len(counts)} kinds, {total[0]:,} documents in the tuning half and {total[1]:,} in the test half.

## Packages

{markdown_table(["package", "client", "version", "licence", "kinds", "archive's SHA-256 begins"], packages)}
"""


def _kind_row(kind: str, count: Mapping[Half, int], shelves: Sequence[Shelf]) -> list[str]:
    return [
        kind,
        *(f"{count.get(half, 0):,}" for half in HALVES),
        *(_packages(shelves, half) for half in HALVES),
    ]


def _packages(shelves: Sequence[Shelf], half: Half) -> str:
    fixed = {shelf.package for shelf in shelves if shelf.half == half}
    split = {f"*{shelf.package}*" for shelf in shelves if shelf.half is None}
    return ", ".join(sorted(fixed | split))


def _drawn(package: str, kinds: Mapping[str, Sequence[Shelf]]) -> str:
    drawn = [kind for kind, shelves in kinds.items() if any(shelf.package == package for shelf in shelves)]
    return ", ".join(sorted(drawn)) or "the tokenizer"
