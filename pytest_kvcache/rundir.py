"""Run directories: one for each run, below the report directory; the last few are kept as evidence."""

from __future__ import annotations

import secrets
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

from pytest_kvcache.errors import UsageError

KEPT = 5
SECONDS_TO_KEEP_ALL = 24 * 3600


def name_run_directory(report: Path) -> Path:
    """Return ``REPORT/runs/TIME-RANDOM``, a name that no other run has; nothing is made yet."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return report / "runs" / f"{stamp}-{secrets.token_hex(4)}"


def make_run_directory(directory: Path) -> None:
    """Make a run directory of mode 0700 unless it is there, and remove old ones beside it.

    The newest `KEPT` stay, and all of the last day, which may be in use. A report directory that is made
    here ignores itself in git: what models write is confidential. Raises `UsageError` if it cannot be
    written.
    """
    runs = directory.parent
    report = runs.parent
    try:
        if not report.exists():
            report.mkdir(mode=0o700, parents=True, exist_ok=True)
            (report / ".gitignore").write_text("*\n")
        runs.mkdir(mode=0o700, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--kv-report: cannot write to {report} ({error.strerror}): choose another"
        ) from None
    for old in sorted(runs.iterdir())[:-KEPT]:
        if time.time() - old.stat().st_mtime > SECONDS_TO_KEEP_ALL:
            shutil.rmtree(old, ignore_errors=True)
