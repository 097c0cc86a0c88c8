"""Attention layers: what vLLM made of each of them, read from the running model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pytest_kvcache.dtypes import canonical_dtype, is_quantized
from pytest_kvcache.engines.kv_scales import LayerScales, Scales, layer_index

Layer = tuple[str, Scales, Scales, str, str]
"""The kv dtype as vLLM writes it, the scales of keys and of values, the layer's name, its backend."""


DYNAMIC = "per_token_head"
"""How kv dtypes end whose scales are computed as the cache is written: those of a checkpoint are not used."""


def read_layers(model: Any) -> list[Layer]:
    """Return the attention layers of a model of vLLM's; runs where the model is."""
    layers = []
    for name, module in model.named_modules():
        if hasattr(module, "kv_cache_dtype") and hasattr(module, "attn_backend"):
            k_scales, v_scales = (_numbers(getattr(module, scale, 1.0)) for scale in ("_k_scale", "_v_scale"))
            backend = str(module.attn_backend.get_name())
            layers.append((str(module.kv_cache_dtype), k_scales, v_scales, name, backend))
    return layers


def kind_of_scales(layers: Iterable[Layer]) -> str:
    """Return ``"unit"`` if all scales are 1.0, else ``"calibrated"``."""
    return "unit" if all({*k, *v} == {1.0} for _, k, v, *_ in layers) else "calibrated"


def quantized_scales(layers: Iterable[Layer], *, times: float = 1.0) -> Iterator[LayerScales]:
    """Yield the scales of the layers that use a checkpoint's.

    ``times`` is what vLLM has multiplied them by: 2 where numbers in e4m3 mean half as much (fnuz).
    """
    for dtype, k, v, name, _ in layers:
        index = layer_index(name)
        if index is not None and is_quantized(canonical_dtype(dtype)) and not dtype.endswith(DYNAMIC):
            yield LayerScales(index, tuple(scale / times for scale in k), tuple(scale / times for scale in v))


def _numbers(scales: Any) -> Scales:
    """Return as numbers a number, or a tensor of one or of one for each kv head that this process has."""
    return tuple(scales.flatten().tolist()) if hasattr(scales, "flatten") else (float(scales),)
