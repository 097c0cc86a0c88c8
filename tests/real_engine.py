"""What tests of the real engine share: how one is asked for, started on free cores, and found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import processes

from pytest_kvcache.engines import Engine, ProgressReport
from pytest_kvcache.engines.devices import DevicePool, Slot
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.records import EngineSpec

TIMEOUT = 120.0
"""Seconds that one step of an engine may take here."""

CHILD = "pytest_kvcache.engines.vllm_child"


def spec(model: str, dtype: str, **arguments: Any) -> EngineSpec:
    texts = sorted((name, json.dumps(value)) for name, value in arguments.items())
    return EngineSpec(model, dtype, None, tuple(texts))


@contextmanager
def started(
    wanted: EngineSpec, directory: Path, progress: ProgressReport = lambda *_: None
) -> Iterator[tuple[Engine, Slot]]:
    with DevicePool().hold() as slot:
        engine = child_engine_factory(TIMEOUT)(wanted, slot, directory / "engine.log", progress)
        try:
            yield engine, slot
        finally:
            engine.close()


def engine_pids(mark: str) -> list[int]:
    """Return the marked processes that are vLLM itself, not their supervisors."""
    return [pid for pid in processes.marked(mark) if processes.running_module(pid) == CHILD]
