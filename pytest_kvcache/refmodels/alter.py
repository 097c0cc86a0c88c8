"""Alter: projections of attention, so that keys or values grow, or so that they are wrong."""

from __future__ import annotations

import torch

from pytest_kvcache.refmodels.layout import Tensors

_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


def amplified(tensors: Tensors, *, keys: int, values: int) -> Tensors:
    """Return the tensors with keys ``2 ** keys`` and values ``2 ** values`` times as large.

    Queries shrink as keys grow, and the output projection as values do. Powers of two only move the
    exponents of floating-point numbers, and rotary embedding is linear: without a quantized cache the
    function is the same bit for bit.
    """
    exponents = dict(zip(_PROJECTIONS, (-keys, keys, values, -values), strict=True))
    return {name: tensor * 2.0 ** exponents.get(_projection(name), 0) for name, tensor in tensors.items()}


def damaged(tensors: Tensors, *, noise: float, seed: int) -> Tensors:
    """Return the tensors with normal noise on every projection's weights, ``noise`` times as large as
    they are themselves (standard deviations)."""
    generator = torch.Generator().manual_seed(seed)

    def with_noise(weight: torch.Tensor) -> torch.Tensor:
        added = torch.randn(weight.shape, generator=generator) * weight.float().std() * noise
        return (weight.float() + added).to(weight.dtype)

    return {
        name: with_noise(tensors[name]) if name.endswith("_proj.weight") else tensors[name]
        for name in sorted(tensors)
    }


def _projection(name: str) -> str:
    """Return ``k_proj`` for ``model.layers.0.self_attn.k_proj.weight``."""
    return name.split(".")[-2]
