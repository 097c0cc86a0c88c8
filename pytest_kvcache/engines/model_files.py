"""Model files: which files an engine will load, found without starting one."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from pytest_kvcache import refmodels
from pytest_kvcache.engines.identity import directory_hash
from pytest_kvcache.models import is_local
from pytest_kvcache.records import EngineSpec

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TEMPLATES = ("tokenizer_config.json", "chat_template*", "additional_chat_templates/*")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of one model, as they are now."""

    id: str
    """As in `Provenance.model_id`."""
    directory: Path

    @property
    def writes_date(self) -> bool:
        """Whether a chat template among them puts the day into prompts, by transformers' ``strftime_now``."""
        templates = (file for pattern in _TEMPLATES for file in self.directory.glob(pattern))
        return any(b"strftime_now" in file.read_bytes() for file in templates if file.is_file())


def find_files(spec: EngineSpec, cache_dir: Path) -> ModelFiles | None:
    """Return the files that the engine of ``spec`` will load, or None where that cannot be known.

    Of a Hugging Face model it can where the revision is a commit, or no network will be asked, and the
    files are here; of a reference model once it is built. Content hashes are remembered in ``cache_dir``.
    """
    if not (spec.model.startswith("ref:") or is_local(spec.model)):
        snapshot = _hub_snapshot(spec)
        return None if snapshot is None else ModelFiles(f"commit:{snapshot.name}", snapshot)
    directory = _local_directory(spec.model)
    if directory is None:
        return None
    return ModelFiles(f"sha256:{directory_hash(directory, cache_dir)}", directory)


def loaded_directory(model_path: str, model_id: str) -> Path | None:
    """Return where the files of a model lie that was loaded from a path; None if that is not known."""
    if Path(model_path).is_dir():
        return Path(model_path)
    snapshot = _snapshots(model_path) / model_id.removeprefix("commit:")
    return snapshot if snapshot.is_dir() else None


def _local_directory(model: str) -> Path | None:
    if model.startswith("ref:"):
        return refmodels.find(model.removeprefix("ref:"))
    return Path(model).expanduser().resolve()


def _hub_snapshot(spec: EngineSpec) -> Path | None:
    snapshots = _snapshots(spec.model)
    commit = spec.revision or "main"
    if not _COMMIT.fullmatch(commit):
        reference = snapshots.parent / "refs" / commit
        if not (_is_offline() and reference.is_file()):
            return None
        commit = reference.read_text(encoding="ascii").strip()
    snapshot = snapshots / commit
    return snapshot if snapshot.is_dir() else None


def _snapshots(model: str) -> Path:
    return _hub_directory() / f"models--{model.replace('/', '--')}" / "snapshots"


def _hub_directory() -> Path:
    """Return where huggingface_hub keeps models, by the variables that it reads."""
    environ = os.environ
    if hub := environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(hub).expanduser()
    caches = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(environ.get("HF_HOME") or Path(caches, "huggingface")).expanduser() / "hub"


def _is_offline() -> bool:
    setting = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return setting.upper() in ("1", "ON", "YES", "TRUE")
