"""Alter: projections of attention, so that keys or values grow or vanish."""

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


def deafened(tensors: Tensors) -> Tensors:
    """Return the tensors with values of zero, so that attention passes nothing from token to token."""
    return {
        name: torch.zeros_like(tensor) if _projection(name) == "v_proj" else tensor
        for name, tensor in tensors.items()
    }


def _projection(name: str) -> str:
    """Return ``k_proj`` for ``model.layers.0.self_attn.k_proj.weight``."""
    return name.split(".")[-2]
