"""Where things are kept between runs: reference models, and what is slow to find out again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """Return ``$KVCACHE_CACHE_DIR``, else ``pytest-kvcache`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    It need not exist.
    """
    if root := os.environ.get("KVCACHE_CACHE_DIR"):
        return Path(root).absolute()
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches).absolute() / "pytest-kvcache"
