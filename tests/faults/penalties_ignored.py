"""The sampler skips its penalties, of all kinds.

Imitates waybarrios/vllm-mlx#723: parameters that are accepted and do nothing.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.sample.sampler import Sampler

from faults.patching import Fault, around

__all__ = ["Fault"]


@around(Sampler, "apply_penalties")
def _skip(_apply: Any, logits: Any, *_args: Any) -> Any:
    return logits
