"""Attention sees the last 256 tokens only: short prompts do not notice.

Imitates vllm-project/vllm#23813 (needles at 128k: 91 % found, then 13 %) at a length that a CPU can test.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl

from faults.patching import Fault, around

__all__ = ["Fault"]

SEEN = 256


@around(CPUAttentionBackendImpl, "__init__")
def _truncate(init: Any, backend: Any, *args: Any, **kwargs: Any) -> None:
    init(backend, *args, **kwargs)
    backend.sliding_window = SEEN
