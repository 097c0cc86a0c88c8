"""The sampler skips frequency penalties; the other kinds work.

Imitates waybarrios/vllm-mlx#723: parameters that are accepted and do nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from vllm.v1.sample.sampler import Sampler

from faults.patching import Fault, around

__all__ = ["Fault"]


@around(Sampler, "apply_penalties")
def _skip(apply: Any, logits: Any, metadata: Any, written: Any) -> Any:
    without = replace(metadata, frequency_penalties=torch.zeros_like(metadata.frequency_penalties))
    return apply(logits, without, written)
