"""Configuration: how a fault changes what vLLM resolved, after its arguments were read and checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vllm.v1.worker.cpu_worker import CPUWorker

from faults.patching import around


def after_parsing(change: Callable[[Any], None]) -> None:
    """Let ``change`` alter the engine's ``VllmConfig`` before anything is built from it."""

    @around(CPUWorker, "__init__")
    def init_changed(init: Any, worker: Any, vllm_config: Any, *args: Any, **kwargs: Any) -> None:
        change(vllm_config)
        init(worker, vllm_config, *args, **kwargs)
