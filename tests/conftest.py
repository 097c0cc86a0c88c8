"""Fixtures that several test modules use."""

from __future__ import annotations

import os

import numpy  # noqa: F401  (before any inner run: it cannot be loaded twice in one process)
import pytest
from hypothesis import settings
from plugin_project import CONFTEST

# Before any inner run: two of them share the classes.
import pytest_kvcache.engines.launch
import pytest_kvcache.records  # noqa: F401

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    # A change is judged by what it changed, not by the luck of the draw; elsewhere the search goes on.
    settings.load_profile("ci")


def pytest_configure(config: pytest.Config) -> None:
    """Keep every xdist worker that starts real engines, and all that it starts, to cores of its own."""
    worker = getattr(config, "workerinput", None)
    if worker is None or config.option.markexpr != "vllm":
        return
    cores = sorted(os.sched_getaffinity(0))
    number, workers = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
    os.sched_setaffinity(0, cores[number::workers] or cores[-1:])


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A team's repository whose engines are scripted."""
    starts = pytester.path / "starts"
    starts.touch()
    monkeypatch.setenv("SCRIPTED_ENGINE_STARTS", str(starts))
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    # What it keeps across runs is its own, and is kept wherever these tests run.
    monkeypatch.setenv("KVCACHE_CACHE_DIR", str(pytester.path / "cache"))
    monkeypatch.delenv("CI", raising=False)
    # Device locks of its own: these engines use no core, and are not to wait for engines that do.
    monkeypatch.setenv("TMPDIR", str(pytester.path))
    monkeypatch.setattr("tempfile.tempdir", str(pytester.path))
    # A root directory of its own: this repository's goldens and settings lie above it under --basetemp=build.
    pytester.makeini("[pytest]\n")
    pytester.makeconftest(CONFTEST)
    return pytester
