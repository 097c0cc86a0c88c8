"""Launch: starts the real engine, vLLM in a child process."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from pytest_kvcache.cachedir import cache_directory
from pytest_kvcache.engines import Engine, EngineFactory, ProgressReport, wire
from pytest_kvcache.engines.child import ChildEngine
from pytest_kvcache.engines.devices import Slot
from pytest_kvcache.errors import EngineError, UsageError
from pytest_kvcache.models import locate_model
from pytest_kvcache.records import EngineSpec

VLLM_COMMAND = (sys.executable, "-P", "-m", "pytest_kvcache.engines.vllm_child")


def child_engine_factory(timeout: float, command: tuple[str, ...] = VLLM_COMMAND) -> EngineFactory:
    """Return a factory of engines in child processes; ``timeout`` in seconds holds for each step.

    ``command`` is the child program. What it starts raises `EngineError` in one line.
    """

    def start(spec: EngineSpec, slot: Slot, log: Path, progress: ProgressReport) -> Engine:
        if command == VLLM_COMMAND and importlib.util.find_spec("vllm") is None:
            raise EngineError(
                "vllm is not installed beside pytest: on a machine with a GPU, "
                "pip install 'pytest-kvcache[vllm]'; for CPU, see the README"
            )
        try:
            path = locate_model(spec.model, lambda _: progress("building", 0, 0))
        except UsageError as error:
            raise EngineError(str(error)) from None
        request = wire.Start(spec, path, slot.device_ids, str(cache_directory()))
        return ChildEngine(
            command,
            request,
            slot,
            log,
            progress,
            timeout=timeout,
            environment={"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"},
        )

    return start
