"""Every third block of the cache is overwritten with random numbers as soon as it is full.

Imitates memory that somebody else writes to: vllm-project/vllm#17005, nonsense in mixed scripts.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl

from faults.patching import Fault, around

__all__ = ["Fault"]

EVERY = 3
LARGEST = 0x78
"""The byte of the largest number drawn, 256: e4m3 spells NaN 0x7f, and NaN is another fault."""
_random = torch.Generator().manual_seed(0)


@around(CPUAttentionBackendImpl, "do_kv_cache_update")
def _corrupt(write: Any, backend: Any, layer: Any, key: Any, value: Any, cache: Any, slots: Any) -> None:
    write(backend, layer, key, value, cache, slots)
    block_tokens = cache.shape[2]
    filled = slots[slots % block_tokens == block_tokens - 1] // block_tokens
    for block in filled[filled % EVERY == 0].tolist():
        shape = cache[block].shape
        size = torch.randint(LARGEST + 1, shape, generator=_random)
        sign = 0x80 * torch.randint(2, shape, generator=_random)
        cache[block].view(torch.uint8).copy_(size + sign)
