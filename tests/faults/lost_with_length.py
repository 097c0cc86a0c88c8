"""From token 2,000 of a sequence on attention sees the last 256 tokens only; shorter sequences are whole.

Imitates vllm-project/vllm#23813 (needles at 128k: 91 % found, then 13 %): sums over many keys were too
coarse, so that what stands far back was lost in long texts and in no others.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl

from faults.patching import Fault, around
from faults.steps import positions

__all__ = ["Fault"]

FIRST = 2000
"""Beyond the texts of 1,600 tokens of ``full-long``, amid those of 3,200."""
SEEN = 256


@around(CPUAttentionBackendImpl, "forward")
def _lose(forward: Any, backend: Any, layer: Any, *inputs: Any, output: Any, **kwargs: Any) -> Any:
    forward(backend, layer, *inputs, output=output, **kwargs)
    *_, metadata = inputs
    if metadata is None or not (late := positions() >= FIRST).any():
        return output
    whole = output.clone()
    unlimited, backend.sliding_window = backend.sliding_window, SEEN
    forward(backend, layer, *inputs, output=output, **kwargs)
    backend.sliding_window = unlimited
    output[: len(late)][~late] = whole[: len(late)][~late]
    return output
