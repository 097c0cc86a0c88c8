"""Quantize: linear weights, rounded to nearest, to 4 bits in the layouts of GPTQ and AWQ and to e4m3.

Both 4-bit methods are known for how they choose what to round to; here only their *formats* are used,
because what matters is a 4-bit checkpoint on a quantized cache, and no calibration data is needed.

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

from typing import Any

import torch
from torch import Tensor

from pytest_kvcache.refmodels.scales import E4M3_MAX

_PER_INT32 = 8
_GPTQ_ZERO = 8
"""Symmetric: the stored value that stands for 0. The format stores it less one."""
_AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
"""AWQ interleaves: the n-th lowest 4 bits hold this one of the eight outputs."""


def gptq(weight: Tensor, group_size: int) -> dict[str, Tensor]:
    """Return the GPTQ tensors of a weight: symmetric, scale ``max|w| / 7``, no reordering."""
    groups = _groups(weight, group_size)
    scales = _scales(groups.abs().amax(1) / 7)
    values = (groups / scales[:, None]).round().clamp(-8, 7) + _GPTQ_ZERO
    zeros = torch.full_like(scales, _GPTQ_ZERO - 1)
    return {
        "qweight": _pack(values.flatten(0, 1).T).T.contiguous(),
        "qzeros": _pack(zeros),
        "scales": scales.to(torch.bfloat16),
        "g_idx": torch.arange(weight.shape[1], dtype=torch.int32) // group_size,
    }


def awq(weight: Tensor, group_size: int) -> dict[str, Tensor]:
    """Return the AWQ tensors of a weight: asymmetric, scale ``(max - min) / 15``."""
    groups = _groups(weight, group_size)
    lowest, highest = groups.amin(1).clamp(max=0), groups.amax(1).clamp(min=0)
    scales = _scales((highest - lowest) / 15)
    zeros = (-lowest / scales).round().clamp(0, 15)
    values = ((groups / scales[:, None]).round() + zeros[:, None]).clamp(0, 15)
    return {
        "qweight": _pack(_interleaved(values.flatten(0, 1))),
        "qzeros": _pack(_interleaved(zeros)),
        "scales": scales.to(torch.bfloat16),
    }


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


def _groups(weight: Tensor, group_size: int) -> Tensor:
    """Return ``float32[groups, group_size, out]``."""
    return weight.float().T.unflatten(0, (-1, group_size))


def _scales(wanted: Tensor) -> Tensor:
    """Return the scales as they will be stored, so that rounding compensates for their rounding."""
    return wanted.clamp(min=1e-8).to(torch.bfloat16).float()


def _interleaved(values: Tensor) -> Tensor:
    return values.unflatten(-1, (-1, _PER_INT32))[..., _AWQ_ORDER].flatten(-2)


def _pack(values: Tensor) -> Tensor:
    """Pack 4-bit values along the last dimension: ``[..., n]`` to ``int32[..., n / 8]``."""
    shifts = torch.arange(0, 32, 4)
    packed = (values.to(torch.int64).unflatten(-1, (-1, _PER_INT32)) << shifts).sum(-1)
    return torch.where(packed >= 1 << 31, packed - (1 << 32), packed).to(torch.int32)
