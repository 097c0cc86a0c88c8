"""Runs in update mode with scripted engines: their options and tests, and the goldens that they leave."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_project import CONFTEST

SHORT = "--kv-max-tokens=24"
BASELINE = ("--kv-dtypes=auto", "--kv-models=scripted/model", SHORT)
ALL = "--kv-golden-update=all"
OTHERWISE = "--kv-engine-arg=says=other"
"""Makes the scripted engine write other texts."""
NOTHING_WRITTEN = "red: no golden was written: *"
WORKERS = pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])


def source_of(prompt_set: str, name: str) -> str:
    """Return the source of a test that compares with the baseline."""
    return f"""
import pytest

@pytest.mark.kv_sensitive(prompts="{prompt_set}")
def test_{name}(kv_baseline):
    pass
"""


TWO_SETS = source_of("smoke", "plain") + source_of("smoke-penalised", "penalised")


def goldens(project: pytest.Pytester) -> dict[str, tuple[bytes, int]]:
    """Return content and time of every file below the golden directory."""
    root = project.path / "golden"
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def texts(project: pytest.Pytester) -> list[str]:
    """Return the names of the files that hold texts."""
    return sorted(Path(name).name for name in goldens(project) if name.endswith(".json"))


def add_to_conftest(project: pytest.Pytester, source: str) -> None:
    project.makeconftest(CONFTEST + source)
