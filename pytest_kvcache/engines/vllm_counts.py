"""Counts in the engine process: what vLLM's scheduler did for one piece of work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_kvcache.records import Counts

_PREEMPT = "_preempt_request"


class Counter:
    """Counts for one ``vllm.LLM``; preemptions stay unknown where its scheduler runs in another process."""

    def __init__(self, llm: Any) -> None:
        self._preemptions: int | None = None
        self._cached_tokens = 0
        core = getattr(llm.llm_engine.engine_core, "engine_core", None)
        scheduler = getattr(core, "scheduler", None)
        if hasattr(scheduler, _PREEMPT):
            self._preemptions = 0
            self._watch(scheduler)

    def add(self, results: Sequence[Any]) -> None:
        """Count what one batch's results tell of the prefix cache."""
        self._cached_tokens += sum(getattr(result, "num_cached_tokens", None) or 0 for result in results)

    def take(self) -> Counts:
        """Return what was counted since the last time."""
        counts = Counts(self._cached_tokens, self._preemptions)
        self._cached_tokens = 0
        if self._preemptions is not None:
            self._preemptions = 0
        return counts

    def _watch(self, scheduler: Any) -> None:
        preempt = getattr(scheduler, _PREEMPT)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self._preemptions = (self._preemptions or 0) + 1
            return preempt(*args, **kwargs)

        setattr(scheduler, _PREEMPT, counted)
