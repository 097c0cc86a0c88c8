"""Engines: whatever can generate and score under one kv dtype.

The rest of the package sees only the `Engine` protocol. The one real engine is vLLM in a child process
(`child.py` is our side of the socket, `vllm_child.py` the process itself, `supervisor.py` the small
process between them that lets nothing outlive pytest). Only modules named `vllm_*` import vllm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from pytest_kvcache.engines.devices import Slot
from pytest_kvcache.records import (
    Counts,
    EngineSpec,
    Output,
    Prompt,
    Provenance,
    Sampling,
    Score,
    ScoreRequest,
    ScoringPath,
)

ProgressReport = Callable[[str, int, int], None]
"""Called with phase (``loading``, ``generating``, ``scoring``), done and total."""


class Engine(Protocol):
    """One started engine. Every method raises `EngineError` when the engine breaks or takes too long."""

    @property
    def spec(self) -> EngineSpec: ...

    @property
    def provenance(self) -> Provenance: ...

    @property
    def counts(self) -> Counts:
        """What the scheduler did for the last answer."""
        ...

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> tuple[Output, ...]:
        """Generate for all prompts in one batch on an empty prefix cache, in the prompts' order."""
        ...

    def score(
        self,
        requests: Sequence[ScoreRequest],
        *,
        top_k: int = 20,
        path: ScoringPath | None = None,
        keep_prefix_cache: bool = False,
    ) -> tuple[Score, ...]:
        """Return the log-probabilities of given texts, read through the kv cache, in the requests' order.

        ``path`` overrides the way of scoring that the engine has proved by its probe. The prefix cache is
        emptied first unless it is to be kept.
        """
        ...

    def close(self) -> int:
        """End the engine and everything it started; return its peak memory in bytes (0 if unknown)."""
        ...


class EngineFactory(Protocol):
    """Starts an engine on a device slot; the session is given one and never asks what is behind it."""

    def __call__(self, spec: EngineSpec, slot: Slot, log: Path, progress: ProgressReport) -> Engine: ...


class Turn(NamedTuple):
    """An engine that is to be started: on which slot, with which log."""

    spec: EngineSpec
    slot: Slot
    log: Path


@runtime_checkable
class PreparingFactory(EngineFactory, Protocol):
    """A factory that can begin with engines before their turn: much of starting one needs no device."""

    def prepare(self, turn: Turn, following: Turn) -> None:
        """Begin with an engine whose turn has come, and with the one that will probably follow."""
        ...

    def discard(self) -> None:
        """End what was begun and not asked for."""
        ...
