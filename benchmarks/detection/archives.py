"""Archives: the files of a wheel, a source distribution, an npm or a Debian package, without unpacking.

Read in place, so that nothing needs root, no path of an archive reaches the disk, and no tool of a
distribution has to be there.
"""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pytest_kvcache.errors import UsageError

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of every regular file, gzipped files (``*.gz``, ``*.dz``) decompressed.

    Raises UsageError for what is no archive of a known kind, or a broken one.
    """
    try:
        for path, content in _raw_members(archive):
            if path.endswith((".gz", ".dz")):
                yield path[:-3], gzip.decompress(content)
            else:
                yield path, content
    except (EOFError, OSError, ValueError, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise UsageError(f"{archive}: broken archive ({error}): remove it and build again") from error


def _raw_members(archive: Path) -> Iterator[tuple[str, bytes]]:
    if archive.suffix == ".whl":
        yield from _zip_members(archive)
    elif archive.suffix == ".deb":
        with archive.open("rb") as stream:
            yield from _tar_members(_deb_data(stream))
    elif archive.name.endswith((".tgz", ".tar.gz")):
        with archive.open("rb") as stream:
            yield from _tar_members(stream)
    else:
        raise ValueError("neither .whl, .deb, .tgz nor .tar.gz")


def _zip_members(archive: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if not info.is_dir():
                yield info.filename, opened.read(info)


def _tar_members(stream: BinaryIO) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=stream, mode="r|*") as opened:
        for info in opened:
            content = opened.extractfile(info) if info.isreg() else None
            if content is not None:
                yield info.name.removeprefix("./"), content.read()


def _deb_data(stream: BinaryIO) -> BinaryIO:
    """Return the member ``data.tar.*`` of a Debian package: an ar archive of three files."""
    if stream.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise ValueError("no Debian package: it does not begin as an ar archive")
    while len(header := stream.read(_AR_HEADER)) == _AR_HEADER:
        name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
        if name.startswith("data.tar"):
            return io.BytesIO(stream.read(size))
        stream.seek(size + size % 2, io.SEEK_CUR)
    raise ValueError("no Debian package: it has no data.tar")
