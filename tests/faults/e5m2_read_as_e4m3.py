"""What was written as e5m2 is read as e4m3: e4m3 itself is fine.

Imitates vllm-project/vllm#41343: only ``fp8_e5m2`` is broken.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl

from faults.patching import Fault, around

__all__ = ["Fault"]


@around(CPUAttentionBackendImpl, "forward")
def _misread(forward: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    written = backend.kv_cache_dtype
    backend.kv_cache_dtype = written.replace("e5m2", "e4m3")
    try:
        return forward(backend, *args, **kwargs)
    finally:
        backend.kv_cache_dtype = written
