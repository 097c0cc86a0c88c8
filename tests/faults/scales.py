"""Scales: how a fault changes those of a running engine after its checkpoint was loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vllm.model_executor.layers.attention import Attention
from vllm.v1.worker.cpu_model_runner import CPUModelRunner

from faults.patching import around


def after_load(change: Callable[[float, float], tuple[float, float]]) -> None:
    """Let ``change`` replace the key and value scale of every layer, for writing and reading alike."""

    @around(CPUModelRunner, "load_model")
    def load_changed(load: Any, runner: Any, *args: Any, **kwargs: Any) -> None:
        load(runner, *args, **kwargs)
        for layer in runner.model.modules():
            if isinstance(layer, Attention):
                set_scales(layer, *change(layer._k_scale_float, layer._v_scale_float))


def set_scales(layer: Any, key: float, value: float) -> None:
    """vLLM keeps each scale twice: a tensor for kernels on GPUs, a number for those on CPUs."""
    layer._k_scale.fill_(key)
    layer._v_scale.fill_(value)
    layer._k_scale_float, layer._v_scale_float = key, value
