"""Launch: starts the real engine, vLLM in a child process."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from pytest_kvcache.cachedir import cache_directory
from pytest_kvcache.engines import Engine, ProgressReport, wire
from pytest_kvcache.engines.child import ChildEngine
from pytest_kvcache.engines.devices import Slot
from pytest_kvcache.errors import EngineError, UsageError
from pytest_kvcache.models import locate_model
from pytest_kvcache.records import EngineSpec

VLLM_COMMAND = (sys.executable, "-P", "-m", "pytest_kvcache.engines.vllm_child")


@dataclass(frozen=True, slots=True)
class ChildEngineFactory:
    """Starts engines in child processes, an `EngineFactory`."""

    timeout: float
    command: tuple[str, ...]

    @property
    def program(self) -> str:
        """What it starts, in a text that differs wherever that does."""
        return " ".join(self.command)

    def __call__(self, spec: EngineSpec, slot: Slot, log: Path, progress: ProgressReport) -> Engine:
        if self.command == VLLM_COMMAND and importlib.util.find_spec("vllm") is None:
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
            self.command,
            request,
            slot,
            log,
            progress,
            timeout=self.timeout,
            environment={"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"},
        )


def child_engine_factory(timeout: float, command: tuple[str, ...] = VLLM_COMMAND) -> ChildEngineFactory:
    """Return a factory of engines in child processes; ``timeout`` in seconds holds for each step.

    ``command`` is the child program. What it starts raises `EngineError` in one line.
    """
    return ChildEngineFactory(timeout, command)
