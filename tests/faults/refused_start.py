"""The attention backend refuses the quantized cache while the model is built.

Imitates vllm-project/vllm#26431 and #42587: no engine at all, which must be red and not skipped.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl

from faults.patching import Fault, around

__all__ = ["Fault"]


@around(CPUAttentionBackendImpl, "__init__")
def _refuse(_init: Any, _backend: Any, *_args: Any, **_kwargs: Any) -> None:
    raise NotImplementedError("this attention backend does not support a quantized KV cache")
