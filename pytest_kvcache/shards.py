"""Shards: by which the processes of a refresh tell the one that writes how far they came.

What goldens are made of lies in the run store. A shard is one test's word that all it needs is there whole.
A test that was expected and left none did not run, or broke, or its process died.

    ROOT/goldens/expected.json  all tests that need goldens, and which
    ROOT/goldens/TEST.json      a shard
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from pytest_kvcache.errors import KvCacheError
from pytest_kvcache.files import write_atomically
from pytest_kvcache.records import content_key
from pytest_kvcache.refresh import Want, merge


class _Expected(msgspec.Struct, frozen=True):
    wants: tuple[Want, ...]
    """Each once, however many tests need it: it holds a whole prompt set."""
    tests: dict[str, tuple[str, ...]]


class Shards:
    """The shards of one run, below its run store.

    Reading raises `KvCacheError` for a file that is damaged, and writing where there is no room.
    """

    def __init__(self, root: Path) -> None:
        self._directory = root / "goldens"

    def expect(self, needs: Mapping[str, Sequence[Want]]) -> None:
        """Keep what each test needs. Every process collects the same, so any may say it."""
        wants = merge(want for each in needs.values() for want in each)
        tests = {test: tuple(want.key for want in each) for test, each in needs.items()}
        self._write("expected", msgspec.json.encode(_Expected(wants, tests)))

    def expected(self) -> dict[str, tuple[Want, ...]]:
        """Return what each test needs; nothing if no collection came to its end."""
        path = self._path("expected")
        try:
            entry = msgspec.json.decode(path.read_bytes(), type=_Expected)
        except FileNotFoundError:
            return {}
        except msgspec.MsgspecError as error:
            raise KvCacheError(f"{path} is damaged ({error}): refresh again") from None
        wants = {want.key: want for want in entry.wants}
        return {test: tuple(wants[key] for key in keys) for test, keys in entry.tests.items()}

    def put(self, test: str) -> None:
        """Leave the shard of a test."""
        self._write(content_key(test), msgspec.json.encode(test))

    def has(self, test: str) -> bool:
        return self._path(content_key(test)).exists()

    def _write(self, name: str, data: bytes) -> None:
        path = self._path(name)
        try:
            write_atomically(path, data)
        except OSError as error:
            raise KvCacheError(
                f"cannot write {path} ({error.strerror}): make room, or name another --kv-report"
            ) from None

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"
