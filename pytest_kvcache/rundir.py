"""Run directories: one for each run, below the report directory; the last few are kept as evidence."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from pytest_kvcache.errors import UsageError

KEPT = 5


def new_run_directory(report: Path) -> Path:
    """Make and return ``REPORT/runs/TIME-XXXX`` of mode 0700, and remove all but the newest `KEPT`.

    A report directory that is made here ignores itself in git: what models write is confidential.
    Raises `UsageError` if it cannot be written.
    """
    runs = report / "runs"
    try:
        if not report.exists():
            report.mkdir(mode=0o700, parents=True)
            (report / ".gitignore").write_text("*\n", encoding="ascii")
        runs.mkdir(mode=0o700, exist_ok=True)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        directory = Path(tempfile.mkdtemp(dir=runs, prefix=f"{stamp}-"))
    except OSError as error:
        raise UsageError(
            f"--kv-report: cannot write to {report} ({error.strerror}): choose another"
        ) from None
    for old in sorted(runs.iterdir())[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return directory
