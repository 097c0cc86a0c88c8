"""Leftovers: files that a writer which was killed has left, and sidecars that no golden names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_kvcache.errors import GoldenError
from pytest_kvcache.golden.names import SIDECAR_SUFFIX, text_of_sidecar
from pytest_kvcache.golden.parsing import MAX_TEXT_BYTES
from pytest_kvcache.golden.reading import content, read
from pytest_kvcache.text import printable

TEMPORARY_SUFFIX = ".kv-tmp"


@dataclass(frozen=True, order=True, slots=True)
class Problem:
    """One thing that is wrong with a directory of goldens."""

    path: Path
    message: str
    """One line: the file, what is wrong, and what to do."""


def leftovers(root: Path) -> Iterator[Problem]:
    """Yield the files below ``root`` that belong to no golden."""
    advice = "the next refresh removes it, or kvcache golden prune --delete"
    for path in root.glob(f"*/.*{TEMPORARY_SUFFIX}"):
        yield Problem(path, f"{printable(str(path))}: left by a writer that was killed; {advice}")
    for path in root.glob(f"*/*{SIDECAR_SUFFIX}"):
        text = text_of_sidecar(path)
        if text is not None and is_orphan(path, text):
            yield Problem(path, f"{printable(str(path))}: no golden names this sidecar; {advice}")


def is_orphan(sidecar: Path, text: Path) -> bool:
    """Whether the golden that a sidecar's name belongs to is not there, or is whole and names another.

    A damaged golden keeps every sidecar: nobody knows which one it named.
    """
    if not (text.exists() or text.is_symlink()):
        return True
    try:
        if sidecar.name.encode() in content(text, MAX_TEXT_BYTES):
            return False
        read(text)
    except GoldenError:
        return False
    return True
