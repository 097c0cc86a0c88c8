"""Keys are read from the cache with half the scale that they were written with.

Imitates sgl-project/sglang#34765 and flashinfer-ai/flashinfer#4979, where one side of the cache takes the
calibrated scale and the other does not.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl

from faults.patching import Fault, around

__all__ = ["Fault"]


@around(CPUAttentionBackendImpl, "forward")
def _misread(forward: Any, backend: Any, layer: Any, *args: Any, **kwargs: Any) -> Any:
    written = layer._k_scale_float
    layer._k_scale_float = written / 2
    try:
        return forward(backend, layer, *args, **kwargs)
    finally:
        layer._k_scale_float = written
