"""Later pieces of a prompt write their keys with twice the scale; a prompt in one piece is fine.

Imitates vllm-project/vllm#4381 and #7714: chunked prefill over an fp8 cache differs from whole.
"""

from __future__ import annotations

from typing import Any

import torch

from faults.patching import Fault
from faults.steps import of_kind, on_write

__all__ = ["Fault"]


@on_write
def _halve(key: Any, value: Any) -> tuple[Any, Any]:
    late = of_kind("chunk")[:, None, None]
    return torch.where(late, key / 2, key), value
