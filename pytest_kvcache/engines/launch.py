"""Launch: starts the real engine, vLLM in a child process, and the process of the next one ahead."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pytest_kvcache.cachedir import cache_directory
from pytest_kvcache.engines import Engine, ProgressReport, Turn, wire
from pytest_kvcache.engines.child import ChildEngine, ChildProcess
from pytest_kvcache.engines.devices import Slot
from pytest_kvcache.errors import EngineError, UsageError
from pytest_kvcache.models import locate_model
from pytest_kvcache.records import EngineSpec

VLLM_COMMAND = (sys.executable, "-P", "-m", "pytest_kvcache.engines.vllm_child")


@dataclass(slots=True)
class ChildEngineFactory:
    """Starts engines in child processes, a `PreparingFactory`."""

    timeout: float
    command: tuple[str, ...]
    _prepared: dict[Turn, ChildProcess] = field(default_factory=dict)

    @property
    def program(self) -> str:
        """What it starts, in a text that differs wherever that does."""
        return " ".join(self.command)

    def __call__(self, spec: EngineSpec, slot: Slot, log: Path, progress: ProgressReport) -> Engine:
        self._check_installed()
        try:
            path = locate_model(spec.model, lambda _: progress("building", 0, 0))
        except UsageError as error:
            raise EngineError(str(error)) from None
        request = wire.Start(spec, path, slot.device_ids, str(cache_directory()))
        turn = Turn(spec, slot, log)
        process = self._prepared.pop(turn, None) or self._begin(turn)
        return ChildEngine(process, request, progress, timeout=self.timeout)

    def prepare(self, *turns: Turn) -> None:
        """Start the processes of engines whose turn will come, and end any other that was started so.

        What goes wrong here is left for that turn, when it will go wrong again.
        """
        for turn in self._prepared.keys() - set(turns):
            self._prepared.pop(turn).end()
        with suppress(EngineError):
            self._check_installed()
            for turn in turns:
                self._prepared[turn] = self._prepared.get(turn) or self._begin(turn)

    def _begin(self, turn: Turn) -> ChildProcess:
        return ChildProcess(
            self.command, *turn, environment={"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        )

    def _check_installed(self) -> None:
        if self.command == VLLM_COMMAND and importlib.util.find_spec("vllm") is None:
            raise EngineError(
                "vllm is not installed beside pytest: on a machine with a GPU, "
                "pip install 'pytest-kvcache[vllm]'; for CPU, see the README"
            )


def child_engine_factory(timeout: float, command: tuple[str, ...] = VLLM_COMMAND) -> ChildEngineFactory:
    """Return a factory of engines in child processes; ``timeout`` in seconds holds for each step.

    ``command`` is the child program. What it starts raises `EngineError` in one line.
    """
    return ChildEngineFactory(timeout, command)
