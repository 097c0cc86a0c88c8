"""Fixtures that several test modules use."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import numpy  # noqa: F401  (before any inner run: it cannot be loaded twice in one process)
import pytest
import scripted
from hypothesis import settings
from plugin_project import CONFTEST

# Before any inner run: two of them share the classes.
import pytest_kvcache.records  # noqa: F401
from pytest_kvcache.engines.launch import child_engine_factory

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


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A team's repository with prompts of its own, outside CI, where ``kvcache`` starts scripted engines."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CI", raising=False)
    factory = partial(child_engine_factory, command=scripted.COMMAND)
    monkeypatch.setattr("pytest_kvcache.cli._engines.engine_factory", factory)
    monkeypatch.setenv("SCRIPTED_ENGINE_STARTS", str(tmp_path / "starts"))
    # Run stores and device locks of its own: nothing else may leave traces there, or be waited for.
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    lines = [{"sampling": {"max_tokens": 80}}, *({"id": f"p{i}", "text": f"text {i}"} for i in range(4))]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path
