"""Places: the directory of goldens as the file system shows it, and one line where it does not."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pytest_kvcache.errors import GoldenError
from pytest_kvcache.text import printable

_ELSEWHERE = "check --kv-golden-dir"


@dataclass(frozen=True, slots=True)
class Listing:
    """The files that lie in a golden directory and in the directories of its models."""

    files: list[Path] = field(default_factory=list)
    refused: dict[Path, GoldenError] = field(default_factory=dict)
    """The directories that could not be read, with the line that says so."""


def listing(root: Path) -> Listing:
    """Return what lies below ``root``; nothing if it does not exist."""
    found = Listing()
    for folder in [root, *_read(root, found)]:
        _read(folder, found, found.files)
    return found


def is_there(path: Path) -> bool:
    """Whether anything has this name. Raises GoldenError where that cannot be known."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unreadable(path, error) from None
    return True


def check_writable(root: Path) -> None:
    """Raise GoldenError if goldens cannot be written below ``root``, which need not exist. Makes nothing."""
    for place in (root, *root.parents):
        refused = _stated(place)
        if not isinstance(refused, FileNotFoundError):
            break
    if refused:
        raise _unreadable(place, refused)
    if not place.is_dir():
        raise _unfit(f"goldens cannot be written in {root}, because {place} is no directory; {_ELSEWHERE}")
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        raise _unfit(f"goldens cannot be written in {root}: make {place} writable, or {_ELSEWHERE}")
    if place == root:
        _check_lockable(root)


@contextmanager
def locked(root: Path, how: int) -> Iterator[None]:
    """Hold the lock on a golden directory, ``LOCK_EX`` or ``LOCK_SH``; wait for it.

    Raises GoldenError if the file system has no locks for directories, and OSError for all else.
    """
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(root, handle, how)
        yield
    finally:
        os.close(handle)


def _check_lockable(root: Path) -> None:
    try:
        with locked(root, fcntl.LOCK_EX | fcntl.LOCK_NB):
            pass
    except BlockingIOError:
        return  # somebody else has it


def _lock(root: Path, handle: int, how: int) -> None:
    try:
        fcntl.flock(handle, how)
    except BlockingIOError:
        raise
    except OSError as error:
        raise _unfit(
            f"the directory {root} cannot be locked ({error.strerror}), which network file systems often "
            "refuse: keep goldens in a directory on a local disk (--kv-golden-dir)"
        ) from None


def _read(folder: Path, found: Listing, files: list[Path] | None = None) -> list[Path]:
    """Add the files of a directory to ``files``, and return its directories."""
    folders = []
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir():
                    folders.append(folder / entry.name)
                elif files is not None:
                    files.append(folder / entry.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        found.refused[folder] = _unreadable(folder, error)
    return folders


def _stated(place: Path) -> OSError | None:
    """Return what the file system says against a place, or None if it is there."""
    try:
        place.stat()
    except NotADirectoryError:
        return FileNotFoundError()  # what is wrong is a file above it
    except OSError as error:
        return error
    return None


def _unreadable(path: Path, error: OSError) -> GoldenError:
    if isinstance(error, NotADirectoryError):
        above = next(place for place in (path, *path.parents) if _stated(place) is None)
        return _unfit(f"there can be no golden in {above}, which is no directory; {_ELSEWHERE}")
    return _unfit(f"{path} cannot be read ({error.strerror}): make it readable, or {_ELSEWHERE}")


def _unfit(message: str) -> GoldenError:
    return GoldenError(printable(message))
