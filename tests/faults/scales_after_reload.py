"""The cache is read with other scales than it was written with, as after weights were reloaded.

Imitates sgl-project/sglang#39942 and vllm-project/vllm#57163, where weights come back after a sleep.
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
