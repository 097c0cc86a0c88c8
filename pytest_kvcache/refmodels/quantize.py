"""Quantize: linear weights in 4 bits, in the layouts of GPTQ and AWQ, and in e4m3.

Both layouts get their values in one way, the error feedback of GPTQ (Frantar et al. 2022, "GPTQ: Accurate
Post-Training Quantization for Generative Pre-trained Transformers", algorithm 1): inputs are rounded one
after the other, and what rounding one of them changed in the outputs is made good by those that follow, as
far as the inputs of some text allow. AWQ's own method is not run; its *format* is what an engine has to read.

A weight is ``float[out, in]``; groups of ``group_size`` inputs share a scale. Packed tensors hold
eight 4-bit values in an int32, the first in the lowest bits:

========  ==========================  ==========================
tensor    GPTQ                        AWQ
========  ==========================  ==========================
qweight   ``int32[in / 8, out]``      ``int32[in, out / 8]``
qzeros    ``int32[groups, out / 8]``  ``int32[groups, out / 8]``
scales    ``bf16[groups, out]``       ``bf16[groups, out]``
g_idx     ``int32[in]``               none
========  ==========================  ==========================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pytest_kvcache.refmodels.scales import E4M3_MAX

_PER_INT32 = 8
_GPTQ_ZERO = 8
"""Symmetric: the stored value that stands for 0. The format stores it less one."""
_AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
"""AWQ interleaves: the n-th lowest 4 bits hold this one of the eight outputs."""
_DAMPING = 0.01
_TINY = 1e-8

CLIPS = tuple(1 - step / 20 for step in range(10))
"""What may be left of a group's range: values beyond it saturate, the others lie closer together."""

Grid = Callable[[Tensor, float], tuple[Tensor, Tensor]]
"""Scale and zero, ``float[out]``, of a group ``float[group_size, out]`` for a clip."""


def gptq(weight: Tensor, hessian: Tensor, group_size: int) -> dict[str, Tensor]:
    """Return the GPTQ tensors of a weight: symmetric, scale ``c max|w| / 7``, no reordering.

    ``hessian`` is that of :func:`rounded`. ``c`` is the best of ``CLIPS`` for each group.
    """
    values, scales, zeros = rounded(weight, hessian, group_size, _symmetric)
    return {
        "qweight": _pack(values.T).T.contiguous(),
        "qzeros": _pack(zeros - 1),
        "scales": scales.to(torch.bfloat16),
        "g_idx": torch.arange(weight.shape[1], dtype=torch.int32) // group_size,
    }


def awq(weight: Tensor, hessian: Tensor, group_size: int) -> dict[str, Tensor]:
    """Return the AWQ tensors of a weight: asymmetric, scale ``c (max - min) / 15``, else as :func:`gptq`."""
    values, scales, zeros = rounded(weight, hessian, group_size, _asymmetric)
    return {
        "qweight": _pack(_interleaved(values)),
        "qzeros": _pack(_interleaved(zeros)),
        "scales": scales.to(torch.bfloat16),
    }


def rounded(weight: Tensor, hessian: Tensor, group_size: int, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
    """Return values ``float[in, out]`` from 0 to 15, scales and zeros ``float[groups, out]``, such that
    ``(values - zeros) * scales`` serves the inputs of the hessian as ``weight`` does.

    ``hessian`` is ``float[in, in]``, ``X^T X`` over the inputs ``X`` of some text; 1 % of its mean diagonal
    is added to its diagonal, which is GPTQ's damping. The grid of a group is chosen when its turn comes.
    """
    left, inverse = weight.float().T.clone(), _inverse_factor(hessian)
    values, scales, zeros = torch.empty_like(left), [], []
    for start in range(0, len(left), group_size):
        stop = start + group_size
        group = left[start:stop]
        scale, zero = _least_error(group, grid)
        errors = torch.empty_like(group)
        for row in range(group_size):
            factors = inverse[start + row, start + row : stop]
            values[start + row] = _on_grid(group[row], scale, zero)
            errors[row] = (group[row] - (values[start + row] - zero) * scale) / factors[0]
            group[row + 1 :] -= factors[1:, None] * errors[row]
        left[stop:] -= inverse[start:stop, stop:].T @ errors
        scales.append(scale)
        zeros.append(zero)
    return values, torch.stack(scales), torch.stack(zeros)


def e4m3(weight: Tensor) -> dict[str, Tensor]:
    """Return the compressed-tensors pair of a weight: ``float8[out, in]`` and a scale for each output,
    ``bf16[out, 1]``."""
    scales = _scales(weight.float().abs().amax(1, keepdim=True) / E4M3_MAX)
    values = (weight.float() / scales).clamp(-E4M3_MAX, E4M3_MAX)
    return {"weight": values.to(torch.float8_e4m3fn), "weight_scale": scales.to(torch.bfloat16)}


METHODS = {"gptq": gptq, "awq": awq}


def quantization_config(method: str, group_size: int) -> dict[str, Any]:
    """Return the ``quantization_config`` entry that makes an engine read these tensors."""
    shared = {"quant_method": method, "bits": 4, "group_size": group_size}
    if method == "gptq":
        return shared | {"desc_act": False, "sym": True, "checkpoint_format": "gptq"}
    return shared | {"zero_point": True, "version": "gemm"}


def eight_bit_config() -> dict[str, Any]:
    """Return the ``quantization_config`` entry for :func:`e4m3`; activations are rounded token by token."""
    shared = {"num_bits": 8, "type": "float", "symmetric": True}
    return {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": shared | {"strategy": "channel", "dynamic": False},
                "input_activations": shared | {"strategy": "token", "dynamic": True},
            }
        },
    }


def _inverse_factor(hessian: Tensor) -> Tensor:
    """Return the upper triangular ``U`` with ``U^T U`` the inverse of the damped hessian."""
    damped = hessian + _DAMPING * hessian.diagonal().mean().clamp(min=_TINY) * torch.eye(len(hessian))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True)


def _symmetric(group: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    scale = _scales(clip * group.abs().amax(0) / 7)
    return scale, torch.full_like(scale, _GPTQ_ZERO)


def _asymmetric(group: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    lowest, highest = group.amin(0).clamp(max=0), group.amax(0).clamp(min=0)
    scale = _scales(clip * (highest - lowest) / 15)
    return scale, (-clip * lowest / scale).round().clamp(0, 15)


def _least_error(group: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Return scale and zero ``float[out]`` of the clip with the least squared error, output by output."""
    grids = [grid(group, clip) for clip in CLIPS]
    errors = torch.stack(
        [((_on_grid(group, scale, zero) - zero) * scale - group).square().sum(0) for scale, zero in grids]
    )
    best = errors.argmin(0, keepdim=True)
    scales, zeros = (torch.stack(parts).gather(0, best)[0] for parts in zip(*grids, strict=True))
    return scales, zeros


def _on_grid(weight: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    return ((weight / scale).round() + zero).clamp(0, 15)


def _scales(wanted: Tensor) -> Tensor:
    """Return the scales as they will be stored, so that rounding compensates for their rounding."""
    return wanted.clamp(min=_TINY).to(torch.bfloat16).float()


def _interleaved(values: Tensor) -> Tensor:
    return values.unflatten(-1, (-1, _PER_INT32))[..., _AWQ_ORDER].flatten(-2)


def _pack(values: Tensor) -> Tensor:
    """Pack 4-bit values along the last dimension: ``[..., n]`` to ``int32[..., n / 8]``."""
    shifts = torch.arange(0, 32, 4)
    packed = (values.to(torch.int64).unflatten(-1, (-1, _PER_INT32)) << shifts).sum(-1)
    return torch.where(packed >= 1 << 31, packed - (1 << 32), packed).to(torch.int32)
