"""Model identity: what exactly was loaded, so that two engines can be known to hold the same model."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec

from pytest_kvcache.errors import EngineError


def text_hash(text: str) -> str:
    """Return the SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def model_identity(model_path: str, hf_config: Any, cache_dir: Path) -> str:
    """Return ``sha256:HASH`` of a local directory's files or ``commit:HASH`` of a hub model.

    ``hf_config`` is the loaded configuration, which remembers the hub's commit.
    Raises `EngineError` for a hub model whose commit is not known: it could not be compared.
    """
    path = Path(model_path)
    if path.is_dir():
        return f"sha256:{directory_hash(path, cache_dir)}"
    commit = getattr(hf_config, "_commit_hash", None)
    if not commit:
        raise EngineError(f"the commit of model {model_path} is not known: download it to a local directory")
    return f"commit:{commit}"


def directory_hash(directory: Path, cache_dir: Path) -> str:
    """Return one SHA-256 over the names and contents of all files below ``directory`` that are not hidden.

    Hidden ones are no model's: ``.git``, or what a download notes of its own time in ``.cache``, would give
    the same model another identity on every machine. A file's own hash is remembered in ``cache_dir`` by
    path, size, mtime and inode, so that only what changed is read again.
    """
    memo_file = cache_dir / "content-hashes.json"
    known = _read_memo(memo_file)
    used: dict[str, str] = {}
    total = hashlib.sha256()
    for file in sorted(p for p in directory.rglob("*") if p.is_file()):
        name = file.relative_to(directory)
        if any(part.startswith(".") for part in name.parts):
            continue
        info = file.stat()
        stamp = f"{file.resolve()}|{info.st_size}|{info.st_mtime_ns}|{info.st_ino}"
        used[stamp] = known.get(stamp) or _file_hash(file)
        total.update(f"{name}\0{used[stamp]}\n".encode())
    if not used.keys() <= known.keys():
        _write_memo(memo_file, known | used)
    return total.hexdigest()


def _file_hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_memo(memo_file: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(memo_file.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError):
        return {}


def _write_memo(memo_file: Path, memo: dict[str, str]) -> None:
    """Keep the memo if that is possible; a lost one only costs time."""
    temporary = memo_file.with_name(f"{memo_file.name}.{os.getpid()}")
    try:
        memo_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.write_bytes(msgspec.json.encode(memo))
        temporary.replace(memo_file)
    except OSError:
        temporary.unlink(missing_ok=True)
