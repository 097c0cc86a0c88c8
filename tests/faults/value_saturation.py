"""Values are stored 1024 times larger, and attention takes it back: exact, but beyond what e4m3 can hold.

Imitates vllm-project/vllm#54705: values clipped at 448 cost 4 points of MATH-500.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl

from faults.patching import Fault, around
from faults.steps import on_write

__all__ = ["Fault"]

FACTOR = 1024
on_write(lambda key, value: (key, value * FACTOR))


@around(CPUAttentionBackendImpl, "forward")
def _take_back(forward: Any, *args: Any, **kwargs: Any) -> Any:
    return forward(*args, **kwargs).div_(FACTOR)
