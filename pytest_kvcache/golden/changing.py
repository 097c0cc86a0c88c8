"""Changing a directory of goldens: one writer at a time, all goldens of a commit or none.

A commit writes every new file under a temporary name and makes it last (fsync) before it renames the
first one. Sidecars are named by their content, so that renaming them changes nothing that anybody reads;
renaming a text is the moment at which its golden changes. Killed at any point, every golden is the old
one or the new one, and what was left is removed by the next commit of the same goldens. Sidecars of other
goldens are never removed but by name, even if no text names them: somebody may have moved theirs.
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
from pytest_kvcache.golden.damage import DamagedError
from pytest_kvcache.golden.finding import check_subject, digest_at, golden_at
from pytest_kvcache.golden.format import Encoded, as_kept, encode
from pytest_kvcache.golden.leftovers import TEMPORARY_SUFFIX, leftovers, orphans, temporaries
from pytest_kvcache.golden.names import GoldenName, name_of, text_of_sidecar
from pytest_kvcache.golden.places import is_there, locked
from pytest_kvcache.golden.reading import is_outdated, refusal
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
        _discard(temporaries(root))
        changes = [_Change(name.path(root), encoded.get(name) or encode(wanted[name])) for name in changed]
        with _tidied(root, wanted, changes):
            _replace(changes)
    return tuple(name.path(root) for name in changed)


def remove(root: Path, digests: Mapping[GoldenName, str]) -> tuple[GoldenName, ...]:
    """Delete goldens that are still what they were, as :meth:`GoldenDirectory.remove` says.

    The text goes first: a sidecar without a text is a leftover, never the reverse.
    """
    if not is_there(root):
        return ()
    with _writing(root):
        # Under the lock, so that nobody can write one anew between the look and the deletion.
        same = [name for name, digest in digests.items() if digest_at(root, name) == digest]
        for path in (name.path(root) for name in same):
            path.unlink()
            sync_directory(path.parent)
        for sidecar in _orphans_of(root, same):
            sidecar.unlink()
    return tuple(same)


def remove_leftovers(root: Path) -> tuple[Path, ...]:
    """Delete temporary files of dead writers, and sidecars that no golden names; return what was deleted."""
    if not is_there(root):
        return ()
    with _writing(root):
        found = tuple(leftover.path for leftover in leftovers(root))
        for path in found:
            path.unlink(missing_ok=True)
    return found


def _by_name(goldens: Iterable[Golden]) -> dict[GoldenName, Golden]:
    wanted: dict[GoldenName, Golden] = {}
    for golden in goldens:
        name = name_of(golden)
        if name in wanted:
            raise _clash(name, wanted[name], golden)
        wanted[name] = golden
    return wanted


def _clash(name: GoldenName, one: Golden, other: Golden) -> GoldenError:
    first, second = (golden.outputs.spec.model for golden in (one, other))
    who, advice = f"{first} and {second}", "keep one of them in another directory (--kv-golden-dir)"
    if first == second:
        who = f"two models, prompt sets or variants that are kept under {first}"
    return GoldenError(printable(f"{who} would both be the golden of {name}; {advice}"))


@contextmanager
def _writing(root: Path) -> Iterator[None]:
    """Be the only writer below ``root``, and say in one line what the file system refuses."""
    try:
        _make(root)
        with locked(root, fcntl.LOCK_EX):
            yield
    except OSError as error:
        raise KvCacheError(
            printable(f"cannot write goldens in {root} ({error.strerror}): make room, or make it writable")
        ) from None


def _make(root: Path) -> None:
    """Make a directory and what is missing above it, so that it outlives a crash."""
    missing = [place for place in (root, *root.parents) if not place.exists()]
    root.mkdir(parents=True, exist_ok=True)
    for place in missing:
        sync_directory(place.parent)


def _is_kept(root: Path, name: GoldenName, golden: Golden) -> bool:
    """Whether the golden is there as it is, in today's schema: compressors differ, so what they hold is
    compared."""
    try:
        there = golden_at(root, name)
    except DamagedError:
        return False  # to be written anew, unlike what is merely of a newer version, or misnamed
    if there is not None:
        of = golden.outputs
        check_subject(name.path(root), there, of.spec.model, golden.variant, of.prompt_set.name)
    return there == golden and not is_outdated(name.path(root))


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
def _tidied(root: Path, names: Iterable[GoldenName], changes: Sequence[_Change]) -> Iterator[None]:
    """Remove the sidecars that goldens named before, or, of those that were not written, what is new."""
    new = [change.sidecar for change in changes if not is_there(change.sidecar)]
    try:
        yield
    finally:
        with suppress(OSError, GoldenError):
            written = [name for name in names if is_there(name.path(root))]
            _discard([_temporary(path) for change in changes for path in (change.path, change.sidecar)])
            _discard({*_orphans_of(root, written), *(path for path in orphans(root) if path in new)})


def _orphans_of(root: Path, names: Iterable[GoldenName]) -> list[Path]:
    """Return the sidecars that no golden names, of those which are called after these goldens."""
    texts = {name.path(root) for name in names}
    return [path for path in orphans(root) if text_of_sidecar(path) in texts]


def _discard(paths: Iterable[Path]) -> None:
    """Remove files as far as the file system lets us: what stays harms nobody, and is reported."""
    for path in paths:
        with suppress(OSError):
            path.unlink()
