"""Values keep one bit of mantissa: the text stays fluent and gets worse.

Imitates sgl-project/sglang#22671 (AIME 95 to 77) and vllm-project/vllm#54705.
"""

from __future__ import annotations

from typing import Any

import torch

from faults.patching import Fault
from faults.steps import on_write

__all__ = ["Fault"]

ONE_BIT = -64
"""Keeps a bfloat16's sign, exponent and first bit of mantissa."""


@on_write
def _coarsen(key: Any, value: Any) -> tuple[Any, Any]:
    return key, (value.contiguous().view(torch.int16) & ONE_BIT).view(torch.bfloat16)
