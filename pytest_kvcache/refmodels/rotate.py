"""Rotate: every KV head of a model, by angles of its own, so that nothing changes but rounding.

Rotary embedding turns dimensions ``i`` and ``i + head_dim / 2`` of a head together. Turns of one plane
commute, so a key head and the query heads that read it, turned by the same angles in these planes, have
the same products as before. A value head is turned likewise, and the output projection turns it back.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def rotated(
    tensors: dict[str, Tensor], *, layers: int, heads: int, kv_heads: int, head_dim: int, seed: int
) -> dict[str, Tensor]:
    """Return the q, k, v and o projections, turned. Query head ``h`` reads KV head ``h * kv_heads // heads``.

    Angles are uniform in ``[0, 2 pi)``, one for each layer, KV head and pair, for keys and for values.
    Keys keep their slowest pair, where a key bias may stand, as it is. Computes in float32 and returns that.
    """
    generator = torch.Generator().manual_seed(seed)
    turned: dict[str, Tensor] = {}
    for layer in range(layers):
        prefix = f"model.layers.{layer}.self_attn."
        keys, values = torch.rand(2, kv_heads, head_dim // 2, generator=generator) * (2 * math.pi)
        keys[:, -1] = 0
        of_queries, of_outputs = (angles.repeat_interleave(heads // kv_heads, 0) for angles in (keys, values))
        for projection, angles in (("q_proj", of_queries), ("k_proj", keys), ("v_proj", values)):
            for name in (f"{prefix}{projection}.weight", f"{prefix}{projection}.bias"):
                turned[name] = _turn(tensors[name], angles)
        back = prefix + "o_proj.weight"
        turned[back] = _turn(tensors[back].T, of_outputs).T.contiguous()
    return turned


def _turn(tensor: Tensor, angles: Tensor) -> Tensor:
    """Turn the rows of ``[heads * head_dim, ...]`` by ``angles``, ``[heads, head_dim / 2]``."""
    heads, pairs = angles.shape
    first, second = tensor.float().unflatten(0, (heads, 2, pairs)).unbind(1)
    shape = angles.shape + (1,) * (first.dim() - 2)
    cos, sin = angles.cos().view(shape), angles.sin().view(shape)
    return torch.stack([first * cos - second * sin, first * sin + second * cos], dim=1).flatten(0, 2)
