"""Rotate: every head of a multi-head model, by angles of its own, so that nothing changes but rounding.

Rotary embedding turns dimensions ``i`` and ``i + head_dim / 2`` of a head together. Turns of one plane
commute, so a query head and its key head that are turned by the same angles in these planes have the
same products as before. A value head is turned likewise, and the output projection turns it back.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TURNED_ROWS = {
    "q_proj.weight": "keys",
    "q_proj.bias": "keys",
    "k_proj.weight": "keys",
    "k_proj.bias": "keys",
    "v_proj.weight": "values",
    "v_proj.bias": "values",
}


def rotated(
    tensors: dict[str, Tensor], *, layers: int, heads: int, head_dim: int, seed: int
) -> dict[str, Tensor]:
    """Return the q, k, v and o projections of a model with as many KV heads as query heads, turned.

    Angles are uniform in ``[0, 2 pi)``, one for each layer, head and pair, for keys and for values. Keys
    keep their slowest pair, where a key bias may stand, as it is. Computes in float32 and returns that.
    """
    generator = torch.Generator().manual_seed(seed)
    turned: dict[str, Tensor] = {}
    for layer in range(layers):
        prefix = f"model.layers.{layer}.self_attn."
        keys, values = torch.rand(2, heads, head_dim // 2, generator=generator) * (2 * math.pi)
        keys[:, -1] = 0
        angles = {"keys": keys, "values": values}
        for name, which in _TURNED_ROWS.items():
            turned[prefix + name] = _turn(tensors[prefix + name], angles[which])
        back = prefix + "o_proj.weight"
        turned[back] = _turn(tensors[back].T, values).T.contiguous()
    return turned


def _turn(tensor: Tensor, angles: Tensor) -> Tensor:
    """Turn the rows of ``[heads * head_dim, ...]`` by ``angles``, ``[heads, head_dim / 2]``."""
    heads, pairs = angles.shape
    first, second = tensor.float().unflatten(0, (heads, 2, pairs)).unbind(1)
    shape = angles.shape + (1,) * (first.dim() - 2)
    cos, sin = angles.cos().view(shape), angles.sin().view(shape)
    return torch.stack([first * cos - second * sin, first * sin + second * cos], dim=1).flatten(0, 2)
