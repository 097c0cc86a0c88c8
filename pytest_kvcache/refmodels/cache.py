"""Cache: where built models lie, and how one gets there whole, once, and only if wanted.

A model is written into a directory beside its place and renamed into it, under a lock per model. So
a reader sees a whole model or none, two builders never do the same work twice, and what a killed
builder left behind is removed by the next one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kvcache.cachedir import cache_directory
from pytest_kvcache.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MANIFEST = "reference-model.json"
"""A file that every model directory has, and no other directory: what it was built from."""


def models_directory() -> Path:
    """Return where built models lie: ``models/`` in the cache directory. It need not exist."""
    return cache_directory() / "models"


def publish(directory: Path, write: Callable[[Path], None]) -> None:
    """Make ``directory`` exist with what ``write`` puts into the empty directory it is given.

    Does nothing where it exists already, and waits where another process is writing it. Raises
    UsageError if the cache cannot be written; whatever ``write`` raises leaves no trace.
    """
    try:
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _lock(directory):
            if not directory.exists():
                _write_beside_and_rename(directory, write)
    except OSError as error:
        raise UsageError(
            f"cannot write reference models to {directory.parent}: {error.strerror or error}; "
            "set KVCACHE_CACHE_DIR to a directory with room"
        ) from error


def outdated(models: Path, current: Iterable[str]) -> list[Path]:
    """Return the model directories under ``models`` that belong to no ``current`` directory name."""
    wanted = tuple(current)
    found = (manifest.parent for manifest in models.glob(f"*/{MANIFEST}"))
    return sorted(path for path in found if not any(name in path.name for name in wanted))


def size_in_bytes(directory: Path) -> int:
    """Return the size of a directory's files; a file shared between models counts in each."""
    return sum(path.stat().st_size for path in directory.iterdir() if path.is_file())


def _write_beside_and_rename(directory: Path, write: Callable[[Path], None]) -> None:
    prefix = f".building-{directory.name}-"
    for leftover in directory.parent.glob(f"{prefix}*"):
        shutil.rmtree(leftover)
    staging = Path(tempfile.mkdtemp(prefix=prefix, dir=directory.parent))
    try:
        write(staging)
        for path in (*staging.iterdir(), staging):
            _sync(path)
        staging.rename(directory)
        _sync(directory.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    """Hold the model's lock; a process that dies gives it back."""
    with directory.with_name(f".lock-{directory.name}").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
