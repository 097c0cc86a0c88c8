"""One layer's attention overflows to NaN from token 160 of a sequence on.

Imitates vllm-project/vllm#38652: logits of NaN, from which vLLM samples token 0, Qwen's "!", for ever.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl

from faults.patching import Fault, around
from faults.steps import positions

__all__ = ["Fault"]

LAYER = "layers.10."
FIRST = 160


@around(CPUAttentionBackendImpl, "forward")
def _overflow(forward: Any, backend: Any, layer: Any, *args: Any, **kwargs: Any) -> Any:
    output = forward(backend, layer, *args, **kwargs)
    if LAYER in layer.layer_name:
        late = positions() >= FIRST
        output[: len(late)][late] = float("nan")
    return output
