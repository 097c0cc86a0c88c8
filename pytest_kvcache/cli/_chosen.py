"""Which goldens a command is about: those that it names, all of a directory, or those that a run left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_kvcache.errors import UsageError
from pytest_kvcache.golden import GoldenDirectory, GoldenName
from pytest_kvcache.report import read_results

_MAKE = "make goldens with kvcache golden refresh --kv-models=MODEL --prompts=smoke"


def existing(root: Path) -> GoldenDirectory:
    """Return the golden directory at ``root``. Raises `UsageError` if there is none."""
    if not root.is_dir():
        what = "is no directory" if root.exists() else "does not exist"
        raise UsageError(f"the golden directory {root} {what}: check --kv-golden-dir, or {_MAKE}")
    return GoldenDirectory(root)


def named(paths: Iterable[Path], files: Sequence[Path], root: Path) -> tuple[Path, ...]:
    """Return those of the paths that ``files`` mean, however these are written, each once; or all.

    A directory means all that lie in it. Raises `UsageError` for a file that is none of them, for a directory
    that holds none, and if there are no paths.
    """
    places = {_place(path): path for path in paths}
    if not places:
        raise UsageError(f"there is no golden in {root}: check --kv-golden-dir, or {_MAKE}")
    chosen: dict[Path, None] = {}
    for file in files:
        meant = _meant(places, file)
        if not meant:
            what = "is no golden of" if file.exists() else "does not exist, and so is no golden of"
            raise UsageError(f"{file} {what} {root}: check the path, and --kv-golden-dir")
        chosen |= dict.fromkeys(meant)
    return tuple(chosen or places.values())


def chosen(directory: GoldenDirectory, files: Sequence[Path]) -> dict[GoldenName, Path]:
    """Return the goldens that ``files`` mean, or all of them, with their paths. Raises as `named`."""
    known = {directory.path(name): name for name in directory.names()}
    return {known[path]: path for path in named(known, files, directory.root)}


@dataclass(frozen=True, slots=True)
class Unused:
    """The goldens that a run did not use, and that are still there."""

    digests: dict[GoldenName, str]
    """Those that are as they were then, with what the run saw."""
    changed: tuple[GoldenName, ...]
    """Changed since, so that the run says nothing of them."""


def unused(directory: GoldenDirectory, results: Path) -> Unused:
    """Return the goldens that a run did not use, as its results say.

    Raises `UsageError` for results that cannot be read, are of an older version, or of a run that cannot
    know: a partial one, one without goldens, or with those of another directory.
    """
    again = "run all tests with --kv-baseline=golden, then prune"
    try:
        goldens = read_results(results).goldens
    except UsageError as error:
        raise UsageError(f"{error}; {again}") from None
    if goldens.unused is None:
        why = "left tests out" if goldens.used else "read no goldens"
        raise UsageError(f"the run of {results} {why}, so it cannot know which are unused: {again}")
    there = {name.path(Path()).as_posix(): name for name in directory.names()}
    for file in goldens.used:
        if file not in there:
            raise UsageError(
                f"the run of {results} used {file}, not in {directory.root}: check --kv-golden-dir"
            )
    if goldens.unused and goldens.unused_sha256 is None:
        raise UsageError(
            f"the run of {results} was one of an older pytest-kvcache, which did not note what the unused "
            f"goldens held: {again}"
        )
    digests = goldens.unused_sha256 or {}
    found = {name: digests.get(file) for file, name in there.items() if file in goldens.unused}
    same = {name: digest for name, digest in found.items() if digest and directory.digest(name) == digest}
    return Unused(same, tuple(name for name in found if name not in same))


def _meant(places: Mapping[Path, Path], file: Path) -> list[Path]:
    """Return the paths at the place of a file, or anywhere in a directory."""
    if file.is_dir() and not file.is_symlink():
        return [path for place, path in places.items() if place.is_relative_to(file.resolve())]
    return [path for place, path in places.items() if place == _place(file)]


def _place(path: Path) -> Path:
    """Return where a file lies; a link is not followed, for it is no golden."""
    return path.parent.resolve() / path.name
