"""Leftovers: files that a writer which was killed has left, and sidecars that no golden names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_kvcache.errors import GoldenError
from pytest_kvcache.golden.names import SIDECAR_SUFFIX, TEXT_SUFFIX, text_of_sidecar
from pytest_kvcache.golden.parsing import MAX_TEXT_BYTES
from pytest_kvcache.golden.places import is_there, listing
from pytest_kvcache.golden.reading import content, read
from pytest_kvcache.text import printable

TEMPORARY_SUFFIX = ".kv-tmp"

_NAMED = re.compile(rb'"([^"\n]+' + re.escape(SIDECAR_SUFFIX).encode() + rb')"')


@dataclass(frozen=True, order=True, slots=True)
class Problem:
    """One thing that is wrong with a directory of goldens."""

    path: Path
    message: str
    """One line: the file, what is wrong, and what to do."""


def leftovers(root: Path) -> Iterator[Problem]:
    """Yield the files below ``root`` that belong to no golden."""
    advice = "kvcache golden prune --delete removes it"
    for path in temporaries(root):
        yield Problem(path, f"{printable(str(path))}: left by a writer that was killed; {advice}")
    for path in orphans(root):
        yield Problem(path, f"{printable(str(path))}: no golden names this sidecar; {advice}")


def temporaries(root: Path) -> list[Path]:
    """Return the files that a writer has begun and not renamed."""
    return [
        path
        for path in listing(root).files
        if path.name.startswith(".") and path.name.endswith(TEMPORARY_SUFFIX) and path.parent != root
    ]


def orphans(root: Path) -> list[Path]:
    """Return the sidecars that no golden names, wherever it lies and whatever it is called by now.

    A damaged golden keeps every sidecar of its name: nobody knows which one it named.
    """
    files = listing(root).files
    texts = {path: text for path in files if (text := text_of_sidecar(path)) and path.parent != root}
    unnamed = {path: text for path, text in texts.items() if not _may_name(text, path)}
    named = _named(path for path in files if path.suffix == TEXT_SUFFIX) if unnamed else set()
    return [path for path in unnamed if path.name not in named]


def _may_name(text: Path, sidecar: Path) -> bool:
    try:
        if not is_there(text):
            return False
        if sidecar.name.encode() in content(text, MAX_TEXT_BYTES):
            return True
        read(text)
    except GoldenError:
        return True
    return False


def _named(texts: Iterable[Path]) -> set[str]:
    """Return the names of sidecars that stand in texts, damaged or not."""
    names: set[str] = set()
    for text in texts:
        try:
            found = _NAMED.findall(content(text, MAX_TEXT_BYTES))
        except GoldenError:
            continue
        names.update(name.decode(errors="replace") for name in found)
    return names
