"""Places: the directory of goldens as the file system shows it, and one line where it does not."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_kvcache.errors import GoldenError
from pytest_kvcache.text import printable

_ELSEWHERE = "check --kv-golden-dir"


def check_writable(root: Path) -> None:
    """Raise GoldenError if goldens cannot be written below ``root``, which need not exist. Makes nothing."""
    place = next(place for place in (root, *root.parents) if _exists(place))
    if not place.is_dir():
        raise _unfit(f"goldens cannot be written in {root}, because {place} is no directory; {_ELSEWHERE}")
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        raise _unfit(f"goldens cannot be written in {root}: make {place} writable, or {_ELSEWHERE}")


def _exists(place: Path) -> bool:
    try:
        return place.exists()
    except OSError as error:
        raise _unfit(f"{place} cannot be read ({error.strerror}); {_ELSEWHERE}") from None


def _unfit(message: str) -> GoldenError:
    return GoldenError(printable(message))
