"""The corpus: labelled documents, healthy and damaged, as the benchmark's stages hand them on.

A corpus is a directory with one JSON-lines file per half, health and kind::

    CORPUS/tuning/healthy/prose-en.jsonl
    CORPUS/test/damaged/loop.jsonl

Thresholds are chosen on the tuning half. The test half comes from other sources and other damage
generators, and is only ever evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from pytest_kvcache.files import write_atomically

Half = Literal["tuning", "test"]
Severity = Literal["mild", "moderate", "severe"]

HALVES: tuple[Half, ...] = ("tuning", "test")


class Damage(msgspec.Struct, frozen=True):
    """What was done to a healthy document, and where."""

    kind: str
    """The class of damage: ``loop``, ``numbered-loop``, ``soup``, ``mojibake``, ..."""
    generator: str
    """The function that did it; no generator serves both halves."""
    start: int
    end: int
    """Half-open, in characters of the damaged text."""
    severity: Severity
    period: int | None = None
    """Tokens of the repeated unit, for loops."""
    noise: float | None = None
    """Share of tokens changed, between 0 and 1, for loops with noise and for corruption."""


class Document(msgspec.Struct, frozen=True):
    """A text as a model might have written it, with its label."""

    id: str
    kind: str
    """Healthy documents: ``prose-en``, ``code``, ``json``, ...; damaged ones: the damage's kind."""
    source: str
    """Where the text is from, e.g. ``python stdlib: json/decoder.py``; a source belongs to one half."""
    half: Half
    text: str
    token_ids: tuple[int, ...]
    """Of the Qwen tokenizer; for damage done to tokens, the damaged ids themselves."""
    damage: Damage | None = None
    prompt: str | None = None
    baseline: str | None = None
    """What a healthy model wrote for the same prompt; only where the damage shows beside it alone."""
    finish_reason: str | None = None
    """As vLLM's; None where nothing is known of it."""

    @property
    def is_healthy(self) -> bool:
        return self.damage is None


def write_documents(corpus: Path, documents: Iterable[Document]) -> None:
    """Write documents to the files of their halves, health and kinds, replacing those files."""
    files: dict[Path, list[Document]] = {}
    for document in documents:
        files.setdefault(_file_of(corpus, document), []).append(document)
    for path, group in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, msgspec.json.Encoder().encode_lines(group))


def read_documents(
    corpus: Path, half: Half, health: Literal["healthy", "damaged"], kind: str | None = None
) -> Iterator[Document]:
    """Yield the documents of a half, kind by kind in alphabetical order; those of one kind, if named."""
    decoder = msgspec.json.Decoder(Document)
    for path in sorted((corpus / half / health).glob(f"{kind or '*'}.jsonl")):
        yield from decoder.decode_lines(path.read_bytes())


def _file_of(corpus: Path, document: Document) -> Path:
    health = "healthy" if document.is_healthy else "damaged"
    return corpus / document.half / health / f"{document.kind}.jsonl"
