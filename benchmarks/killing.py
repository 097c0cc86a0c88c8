"""A pytest plugin that kills its own process at one boundary of a file operation: see `golden_kills.py`.

    KILLING_IN=DIR KILLING_ROLE=controller|worker [KILLING_AT=12 KILLING_WHEN=before|during|after]
    KILLING_LOG=FILE pytest -p killing ...

Boundaries are the opening of a new file, each write, fsync, rename and removal below DIR and among the shards
of a run store. Without ``KILLING_AT`` they are listed in the log, a line each; with it the process sends
itself SIGKILL there. ``during`` is for writes alone: half of the bytes are on their way.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

DIRECTORY = os.environ.get("KILLING_IN", "")
SHARDS = "/goldens/"
"""Part of the path of every shard in a run store."""
AT = int(os.environ.get("KILLING_AT", "-1"))
WHEN = os.environ.get("KILLING_WHEN", "before")


class Boundaries:
    """Counts boundaries, and dies at the one that was asked for."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._count = 0

    def pass_through(self, what: str, path: str, act: Callable[[], Any], half: Callable[[], Any]) -> Any:
        if not is_watched(path):
            return act()
        here = self._count == AT
        self._count += 1
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"{what} {path}\n")
        if here and WHEN == "before":
            die()
        if here and WHEN == "during":
            half()
            die()
        result = act()
        if here and WHEN == "after":
            die()
        return result


class Watched:
    """A file opened for writing whose writes are boundaries."""

    def __init__(self, stream: IO[Any], path: str, boundaries: Boundaries) -> None:
        self._stream = stream
        self._path = path
        self._boundaries = boundaries

    def write(self, data: Any) -> Any:
        def half() -> None:
            self._stream.write(data[: len(data) // 2])
            self._stream.flush()

        return self._boundaries.pass_through("write", self._path, lambda: self._stream.write(data), half)

    def __enter__(self) -> Watched:
        self._stream.__enter__()
        return self

    def __exit__(self, *about: Any) -> None:
        self._stream.__exit__(*about)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def is_watched(path: str) -> bool:
    return path.startswith(DIRECTORY) or SHARDS in path


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def path_of(handle: int) -> str:
    return str(Path(f"/proc/self/fd/{handle}").readlink())


def nothing() -> None:
    """Where an operation has no half."""


def install(boundaries: Boundaries) -> None:
    """Watch what the standard library offers for changing files."""
    watch_calls(boundaries)
    watch_streams(boundaries)


def watch_calls(boundaries: Boundaries) -> None:
    """Watch what changes a file at one stroke."""
    for name, what in (("replace", "rename"), ("rename", "rename"), ("unlink", "remove"), ("fsync", "fsync")):
        setattr(os, name, watched_call(getattr(os, name), what, boundaries))


def watched_call(call: Callable[..., Any], what: str, boundaries: Boundaries) -> Callable[..., Any]:
    """Return the call as a boundary; the last of its positional arguments names the file."""

    def watched(*of: Any, **options: Any) -> Any:
        path = path_of(of[0]) if isinstance(of[-1], int) else str(of[-1])
        return boundaries.pass_through(what, path, lambda: call(*of, **options), nothing)

    return watched


def watch_streams(boundaries: Boundaries) -> None:
    """Watch files opened for writing, and what is written to them."""
    fdopen, open_path = os.fdopen, Path.open

    def watched(stream: Any, path: str, mode: str) -> Any:
        if "w" not in mode or not is_watched(path):
            return stream
        boundaries.pass_through("open", path, nothing, nothing)
        return Watched(stream, path, boundaries)

    def watched_fdopen(handle: int, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        return watched(fdopen(handle, mode, *arguments, **options), path_of(handle), mode)

    def watched_open(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        return watched(open_path(self, mode, *arguments, **options), str(self), mode)

    os.fdopen = watched_fdopen  # type: ignore[assignment]
    Path.open = watched_open  # type: ignore[method-assign]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    role = "worker" if hasattr(config, "workerinput") else "controller"
    if role == os.environ.get("KILLING_ROLE", "controller"):
        install(Boundaries(Path(os.environ["KILLING_LOG"])))
