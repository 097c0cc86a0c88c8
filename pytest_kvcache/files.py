"""Files: written whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from pathlib import Path


def write_atomically(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace ``path`` by ``data``: a reader sees the old file or the new one, also after a crash.

    Missing parent directories are made, readable by their owner alone. Raises OSError with nothing
    changed, for instance when the disk is full.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def link_or_copy(source: Path, target: Path) -> None:
    """Give ``source`` the name ``target`` too, or copy it where one file system does not hold both.

    Whole or not at all. The two must never be written in place. Raises OSError with nothing changed.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        os.link(source, temporary)
        temporary.replace(target)
    except FileNotFoundError:
        raise
    except OSError:
        write_atomically(target, source.read_bytes())
    finally:
        temporary.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Make the names in ``directory`` survive a crash: files made, renamed and removed there."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def slug(name: str) -> str:
    """Return a name that is safe as one path component and in a test id: letters, digits, ``._-``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "unnamed"
