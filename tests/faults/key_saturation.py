"""Keys are stored 128 times larger, and queries take it back: exact, but beyond what e4m3 can hold (448).

Imitates models whose keys have outliers (ggml-org/llama.cpp#21385) under a scale of 1.0.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl

from faults.patching import Fault, around
from faults.steps import on_write

__all__ = ["Fault"]

FACTOR = 128
on_write(lambda key, value: (key * FACTOR, value))


@around(CPUAttentionBackendImpl, "__init__")
def _take_back(init: Any, backend: Any, *args: Any, **kwargs: Any) -> None:
    init(backend, *args, **kwargs)
    backend.scale /= FACTOR
