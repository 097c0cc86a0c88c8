"""Attention's softmax is twice as sharp where the model is compiled; eager mode is fine.

Imitates kernels that only the compiled graph takes.
"""

from __future__ import annotations

from typing import Any

from vllm.config import CompilationMode, get_current_vllm_config
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl

from faults.patching import Fault, around

__all__ = ["Fault"]


@around(CPUAttentionBackendImpl, "__init__")
def _sharpen(init: Any, backend: Any, *args: Any, **kwargs: Any) -> None:
    init(backend, *args, **kwargs)
    if get_current_vllm_config().compilation_config.mode != CompilationMode.NONE:
        backend.scale *= 2
