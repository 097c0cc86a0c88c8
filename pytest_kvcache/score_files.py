"""Score files: score sets on disk, of which one score at a time is read: those of a large run fill a memory.

4 bytes   length of the header, big-endian
header    the set without its scores, and the length of each of them, in msgpack
scores    one after the other, each in msgpack, deflated by itself
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import overload

import msgspec

from pytest_kvcache.errors import KvCacheError
from pytest_kvcache.records import Score, ScoreSet

FORMAT = 3
"""Format 2 was compressed as a whole, better and six times as slow to read."""
_PREFIX = 4


class _Format(msgspec.Struct, frozen=True):
    format: int


class _Header(msgspec.Struct, frozen=True):
    format: int
    entry: ScoreSet
    lengths: tuple[int, ...]


class StoredScores(Sequence[Score]):
    """The scores of a file, read each time they are asked for.

    Raises `KvCacheError` where the file has been damaged or removed meanwhile.
    """

    def __init__(self, path: Path, start: int, lengths: Sequence[int]) -> None:
        self._path = path
        self._places = list(pairwise(accumulate(lengths, initial=start)))

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Score]:
        yield from self._read(self._places)

    @overload
    def __getitem__(self, at: int) -> Score: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Score]: ...
    def __getitem__(self, at: int | slice) -> Score | Sequence[Score]:
        if isinstance(at, slice):
            return tuple(self._read(self._places[at]))
        return next(self._read([self._places[at]]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def _read(self, places: Sequence[tuple[int, int]]) -> Iterator[Score]:
        try:
            with self._path.open("rb") as file:
                for start, end in places:
                    file.seek(start)
                    yield msgspec.msgpack.decode(zlib.decompress(file.read(end - start)), type=Score)
        except (OSError, zlib.error, msgspec.MsgspecError) as error:
            raise damaged(self._path, error) from None


def packed(entry: ScoreSet) -> bytes:
    """Return a score set as the content of its file."""
    # Repeated token ids and bfloat16 logits leave much to take out; more effort than the least gains little.
    scores = [zlib.compress(msgspec.msgpack.encode(score), 1) for score in entry.scores]
    lengths = tuple(map(len, scores))
    header = msgspec.msgpack.encode(_Header(FORMAT, replace(entry, scores=()), lengths))
    return b"".join((len(header).to_bytes(_PREFIX, "big"), header, *scores))


def read_scores(path: Path) -> ScoreSet | None:
    """Return the score set in a file, or None if there is no file. Raises `KvCacheError` if it is damaged."""
    try:
        with path.open("rb") as file:
            header = _header(file.read(int.from_bytes(file.read(_PREFIX), "big")))
            start, size = file.tell(), path.stat().st_size
        if start + sum(header.lengths) != size:
            raise ValueError(f"{size} bytes, where the header tells of {start + sum(header.lengths)}")
        return replace(header.entry, scores=StoredScores(path, start, header.lengths))
    except FileNotFoundError:
        return None
    except (ValueError, msgspec.MsgspecError) as error:
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> KvCacheError:
    """Return the error of a file of the run store that cannot be read."""
    return KvCacheError(f"{path} is damaged ({error}): remove its run directory and run again")


def _header(data: bytes) -> _Header:
    written = msgspec.msgpack.decode(data, type=_Format).format
    if written != FORMAT:
        raise ValueError(f"written in format {written}, and this version reads {FORMAT}")
    return msgspec.msgpack.decode(data, type=_Header)
