"""KV scales: what a checkpoint says of its cache, held against what each attention layer has of it.

A checkpoint calibrated for a quantized cache stores a scale for the keys of each layer and one for its
values, or one of each for every kv head. An engine that does not know their names, or drops them when it
reloads weights, takes 1.0 and says nothing that anyone reads. Only the headers of safetensors files and these
few numbers are read here, and no torch is needed.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pytest_kvcache.records import Json

_NAME = re.compile(
    r"\.(?P<layer>\d+)\.(?:[\w.]*\.)?"
    r"(?:(?P<one>[kv])_scale|(?P<cache>[kv])_cache\.scale|(?P<proj>[kv])_proj\.output_scale|kv_scale)$"
)
"""The names under which checkpoints keep scales; ``kv_scale`` is of both keys and values."""
_FP8_SCHEME = {"type": "float", "num_bits": 8, "dynamic": False}
_READERS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_RELATIVE = 1e-3
"""By how much a scale may differ: more than rounding to float32, far less than calibrations do."""
_LONGEST_HEADER = 100 << 20
"""Bytes; the format allows no more."""

Scales = tuple[float, ...]
"""One for all heads of a layer, or one for each kv head."""


@dataclass(frozen=True, slots=True)
class LayerScales:
    """The scales of one attention layer's keys and values.

    Of an engine they are those of its first process: of several that share a layer it has the first heads.
    """

    layer: int
    k: Scales
    v: Scales


def check_scales(
    layers: Iterable[LayerScales], stored: Mapping[int, LayerScales] | None, *, announced: bool
) -> tuple[int | None, str | None]:
    """Return for how many layers a checkpoint holds scales, and where the engine's are others.

    ``layers`` are the engine's quantized ones, ``stored`` is what `read_checkpoint_scales` says (None:
    nothing is known), and ``announced`` what `announces_scales` does. Where nothing is known the number is
    None, and scales are lost if they were announced and every layer has 1.0.
    """
    if stored is not None:
        return len(stored), first_difference(layers, stored, announced=announced)
    having = list(layers)
    if announced and having and all({*layer.k, *layer.v} == {1.0} for layer in having):
        return None, "config.json announces scales of the kv cache, and every layer has 1.0"
    return None, None


def read_checkpoint_scales(directory: Path) -> dict[int, LayerScales] | None:
    """Return by layer the scales that a directory's safetensors files hold, None if that cannot be told.

    A layer of which only one is stored has it for both. Left out are layers with scales of a type that none
    has, and files that cannot be read: an engine that loads them has its own word about that. Where nothing
    is left, or the weights are in files of another format, the checkpoint may hold scales all the same.
    """
    files = sorted(directory.glob("*.safetensors"))
    found: dict[int, dict[str, Scales | None]] = {}
    all_read = bool(files)
    for file in files:
        try:
            for layer, sides, scales in _scales_in(file):
                found.setdefault(layer, {}).update(dict.fromkeys(sides, scales))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error):
            all_read = False
    read = {layer: whole for layer in sorted(found) if (whole := _whole(layer, found[layer]))}
    return read if read or (all_read and not found) else None


def announces_scales(quantization_config: Json) -> bool:
    """Whether that part of a model's ``config.json`` has the cache quantized with stored scales."""
    scheme = quantization_config.get("kv_cache_scheme") if isinstance(quantization_config, dict) else None
    return isinstance(scheme, dict) and scheme.get("dynamic") is False


def announcing_file(directory: Path) -> str | None:
    """Return which of a checkpoint's files announces an FP8 cache in ModelOpt's words; None if none does.

    That promises no scales: some such checkpoints leave them out and mean 1.0.
    """
    for name in ("hf_quant_config.json", "config.json"):
        try:
            config = json.loads((directory / name).read_bytes())
        except (OSError, ValueError):
            continue
        if _announces_fp8(config):
            return name
    return None


def layer_index(name: str) -> int | None:
    """Return the number in an attention layer's name, such as ``model.layers.3.self_attn.attn``."""
    number = re.search(r"\.(\d+)\.", name)
    return int(number[1]) if number else None


def first_difference(
    layers: Iterable[LayerScales], stored: Mapping[int, LayerScales], *, announced: bool = False
) -> str | None:
    """Say in one line where quantized layers have other scales than the checkpoint; None if nowhere."""
    having = list(layers)
    if announced and having and not stored:
        return "config.json announces scales of the kv cache, and the checkpoint holds none"
    for layer in having:
        wanted = stored.get(layer.layer)
        if wanted and (fault := _fault(layer, wanted)):
            return f"layer {layer.layer} {fault}"
        if announced and not wanted and {*layer.k, *layer.v} == {1.0}:
            return f"layer {layer.layer} has 1.0: config.json announces scales, and none of it is stored"
    return None


def _announces_fp8(config: Json) -> bool:
    """Whether ModelOpt's part of a configuration, wherever in it that is, quantizes the cache to FP8."""
    if not isinstance(config, dict):
        return False
    algorithm, scheme = config.get("kv_cache_quant_algo"), config.get("kv_cache_scheme")
    if isinstance(algorithm, str) and algorithm.upper() == "FP8":
        return True
    if isinstance(scheme, dict) and scheme.items() >= _FP8_SCHEME.items():
        return True
    return any(_announces_fp8(config.get(part)) for part in ("quantization_config", "quantization"))


def _whole(layer: int, stored: Mapping[str, Scales | None]) -> LayerScales | None:
    k, v = (stored.get(one, stored.get(other)) for one, other in ("kv", "vk"))
    return LayerScales(layer, k, v) if k and v else None


def _fault(having: LayerScales, wanted: LayerScales) -> str | None:
    heads = max(len(having.k), len(having.v))
    ours, stored = (_by_head(each, heads) for each in (having, wanted))
    differs = ~_equal(ours, stored).all(axis=0)
    if not differs.any():
        return None
    head = int(differs.argmax())
    (k, v), (stored_k, stored_v) = ours[:, head], stored[:, head]
    where = f"head {head}: " if heads > 1 else ""
    told = f"({where}k {k:.4g}, v {v:.4g}; the checkpoint says k {stored_k:.4g}, v {stored_v:.4g})"
    if _equal(ours, np.ones_like(ours)).all():
        return f"has lost its scales {told}"
    if _equal(ours, stored[::-1]).all():
        return f"has those of keys and values swapped {told}"
    return f"has other scales {told}"


def _by_head(scales: LayerScales, heads: int) -> NDArray[np.float64]:
    """Return the scales of the first heads, as (keys and values, head): one stored alone is that of each."""
    return np.stack([np.resize(np.asarray(each, np.float64), heads) for each in (scales.k, scales.v)])


def _equal(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.isclose(one, other, rtol=_RELATIVE, atol=0)


def _scales_in(file: Path) -> Iterator[tuple[int, str, Scales | None]]:
    """Yield (layer, ``k``, ``v`` or ``kv``, scales) of one safetensors file; None for what no scales are."""
    with file.open("rb") as stream:
        header, begin = _header(stream)
        for name, tensor in header.items():
            if match := _NAME.search(name):
                side = match["one"] or match["cache"] or match["proj"] or "kv"
                yield int(match["layer"]), side, _numbers(stream, tensor, begin)


def _header(stream: BinaryIO) -> tuple[dict[str, Any], int]:
    """Return the table of tensors, and where their bytes begin."""
    (length,) = struct.unpack("<Q", stream.read(8))
    if length > _LONGEST_HEADER:
        raise ValueError("no safetensors file")
    header: dict[str, Any] = json.loads(stream.read(length))
    return header, 8 + length


def _numbers(stream: BinaryIO, tensor: Mapping[str, Any], begin: int) -> Scales | None:
    """Return the numbers of a tensor in their order, None if it is of a type that no scale has."""
    reader = _READERS.get(tensor["dtype"])
    if reader is None:
        return None
    start, end = tensor["data_offsets"]
    stream.seek(begin + start)
    raw = np.frombuffer(stream.read(end - start), reader)
    return tuple((_of_bfloat16(raw) if tensor["dtype"] == "BF16" else raw).tolist())


def _of_bfloat16(raw: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (raw.astype("<u4") << 16).view("<f4")
