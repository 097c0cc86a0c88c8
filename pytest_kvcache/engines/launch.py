"""Launch: starts the real engine, vLLM in a child process, and the process of the next one ahead."""

from __future__ import annotations

import importlib.util
import os
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
        process = self._process(Turn(spec, slot, log))
        return ChildEngine(process, request, progress, timeout=self.timeout)

    def prepare(self, turn: Turn, following: Turn) -> None:
        """Start two processes that import what they need at the same time, of which the second then waits.

        On a processor nothing is begun while an engine works that was begun ahead itself: its threads would
        wait for each other wherever another program takes one of their cores. What goes wrong here is left
        for the turn, when it is told or has passed.
        """
        waiting = self._prepared.pop(turn, None)
        self.discard()
        with suppress(EngineError):
            self._check_installed()
            self._prepared[turn] = waiting or self._begin(turn)
            if not (waiting and turn.slot.cores):
                self._prepared[following] = self._begin(following)

    def discard(self) -> None:
        """End the processes that were started ahead and not asked for."""
        while self._prepared:
            self._prepared.popitem()[1].end()

    def _process(self, turn: Turn) -> ChildProcess:
        """Return the process that was started ahead, if it is as one would be now, or else a new one."""
        waiting = self._prepared.pop(turn, None)
        if waiting and waiting.is_alive and waiting.environment == _environment(turn.slot):
            return waiting
        if waiting:
            waiting.end()
        return self._begin(turn)

    def _begin(self, turn: Turn) -> ChildProcess:
        return ChildProcess(self.command, turn, environment=_environment(turn.slot))

    def _check_installed(self) -> None:
        if self.command == VLLM_COMMAND and importlib.util.find_spec("vllm") is None:
            raise EngineError(
                "vllm is not installed beside pytest: on a machine with a GPU, "
                "pip install 'pytest-kvcache[vllm]'; for CPU, see the README"
            )


def _environment(slot: Slot) -> dict[str, str]:
    return {**os.environ, **slot.environment(), "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


def child_engine_factory(timeout: float, command: tuple[str, ...] = VLLM_COMMAND) -> ChildEngineFactory:
    """Return a factory of engines in child processes; ``timeout`` in seconds holds for each step.

    ``command`` is the child program. What it starts raises `EngineError` in one line.
    """
    return ChildEngineFactory(timeout, command)
