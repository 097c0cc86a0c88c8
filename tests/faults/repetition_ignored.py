"""The sampler skips repetition penalties; the other kinds work.

Imitates waybarrios/vllm-mlx#723: parameters that are accepted and do nothing.
"""

from __future__ import annotations

from faults.patching import Fault
from faults.penalties import ignore

__all__ = ["Fault"]

ignore("repetition_penalties", without_effect=1)
