"""Changing a directory of goldens: one writer at a time, all goldens of a commit or none.

A commit writes every new file under a temporary name and makes it last (fsync) before it renames the
first one. Sidecars are named by their content, so that renaming them changes nothing that anybody reads;
renaming a text is the moment at which its golden changes. Killed at any point, every golden is the old
one or the new one, and what was left is removed by the next commit.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_kvcache.errors import GoldenError, KvCacheError, PartlyWrittenError
from pytest_kvcache.files import sync_directory
from pytest_kvcache.golden.finding import check_subject, digest_at, golden_at
from pytest_kvcache.golden.format import Encoded, as_kept, encode
from pytest_kvcache.golden.leftovers import TEMPORARY_SUFFIX, leftovers
from pytest_kvcache.golden.names import GoldenName, name_of
from pytest_kvcache.golden.reading import refusal
from pytest_kvcache.records import Golden
from pytest_kvcache.text import listed, printable


def commit(
    root: Path, goldens: Sequence[Golden], expected: Mapping[GoldenName, str | None]
) -> tuple[Path, ...]:
    """Write goldens as :meth:`GoldenDirectory.commit` says."""
    wanted = _by_name(map(as_kept, goldens))
    if not wanted:
        return ()
    # Encoded before the lock is taken, because that takes long; what is there already need not be.
    encoded = {name: encode(golden) for name, golden in wanted.items() if not _is_kept(root, name, golden)}
    with _writing(root):
        changed = [name for name, golden in wanted.items() if not _is_kept(root, name, golden)]
        for name in changed:
            _check_unchanged(root, name, expected)
        _remove_leftovers(root)
        if changed:
            with _tidied(root):
                _replace([_Change(n.path(root), encoded.get(n) or encode(wanted[n])) for n in changed])
    return tuple(name.path(root) for name in changed)


def remove(root: Path, names: Sequence[GoldenName]) -> None:
    """Delete goldens, the text first: a sidecar without a text is a leftover, never the reverse."""
    if not root.is_dir():
        return
    with _writing(root):
        for path in (name.path(root) for name in names):
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                sync_directory(path.parent)
        _remove_leftovers(root)


def remove_leftovers(root: Path) -> None:
    """Delete temporary files of dead writers, and sidecars that no golden names."""
    if not root.is_dir():
        return
    with _writing(root):
        _remove_leftovers(root)


def _by_name(goldens: Iterable[Golden]) -> dict[GoldenName, Golden]:
    wanted: dict[GoldenName, Golden] = {}
    for golden in goldens:
        name = name_of(golden)
        if name in wanted:
            raise GoldenError(
                printable(
                    f"{wanted[name].outputs.spec.model} and {golden.outputs.spec.model} would both be the "
                    f"golden of {name}; keep one of them in another directory (--kv-golden-dir)"
                )
            )
        wanted[name] = golden
    return wanted


@contextmanager
def _writing(root: Path) -> Iterator[None]:
    """Be the only writer below ``root``, and say in one line what the file system refuses."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)
    except OSError as error:
        raise KvCacheError(
            printable(f"cannot write goldens in {root} ({error.strerror}): make room, or make it writable")
        ) from None


def _is_kept(root: Path, name: GoldenName, golden: Golden) -> bool:
    """Whether the golden is there as it is: compressors differ, so what they hold is compared."""
    try:
        there = golden_at(root, name)
    except GoldenError:
        return False  # damaged: to be written anew
    if there is not None:
        of = golden.outputs
        check_subject(name.path(root), there, of.spec.model, golden.variant, of.prompt_set.name)
    return there == golden


def _check_unchanged(root: Path, name: GoldenName, expected: Mapping[GoldenName, str | None]) -> None:
    digest = digest_at(root, name)
    if name in expected and digest != expected[name]:
        raise refusal(
            name.path(root),
            "somebody else has changed it meanwhile; nothing was written",
            "look at the change and refresh again",
        )


@dataclass(frozen=True)
class _Change:
    """A golden to be written."""

    path: Path
    encoded: Encoded

    @property
    def sidecar(self) -> Path:
        return self.path.with_name(self.encoded.sidecar_name)


def _replace(changes: Sequence[_Change]) -> None:
    directories = {change.path.parent for change in changes}
    for directory in directories:
        directory.mkdir(exist_ok=True)
    for change in changes:
        _write(_temporary(change.sidecar), change.encoded.sidecar)
        _write(_temporary(change.path), change.encoded.text)
    for change in changes:
        _temporary(change.sidecar).replace(change.sidecar)
    _sync(directories)
    written: list[str] = []
    try:
        for change in changes:
            _temporary(change.path).replace(change.path)
            written.append(str(change.path))
        _sync(directories)
    except OSError as error:
        if not written:
            raise
        raise PartlyWrittenError(
            f"{len(written)} of {len(changes)} goldens were written ({listed(written)}), then the file "
            f"system refused ({error.strerror}): put that right and refresh again"
        ) from None


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")


def _write(path: Path, data: bytes) -> None:
    # The umask decides who may read it: goldens belong in a repository.
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(directories: set[Path]) -> None:
    for directory in sorted(directories):
        sync_directory(directory)
        sync_directory(directory.parent)


@contextmanager
def _tidied(root: Path) -> Iterator[None]:
    """Remove what a commit leaves: the sidecars that it has replaced, or, if it failed, all that is new."""
    try:
        yield
    finally:
        with suppress(OSError):
            _remove_leftovers(root)


def _remove_leftovers(root: Path) -> None:
    for leftover in list(leftovers(root)):
        leftover.path.unlink(missing_ok=True)
