"""KV scales: what a checkpoint says of its cache, held against what each attention layer has of it.

A checkpoint calibrated for a quantized cache stores a scale for the keys of each layer and one for its
values. An engine that does not know their names, or drops them when it reloads weights, takes 1.0 and says
nothing that anyone reads. Only the headers of safetensors files and these few numbers are read here, and no
torch is needed.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
_READERS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_RELATIVE = 1e-3
"""By how much a scale may differ: more than rounding to float32, far less than calibrations do."""
_LONGEST_HEADER = 100 << 20
"""Bytes; the format allows no more."""


@dataclass(frozen=True, slots=True)
class LayerScales:
    """The scales of one attention layer's keys and values."""

    layer: int
    k: float
    v: float


def check_scales(
    layers: Iterable[LayerScales], directory: Path | None, *, announced: bool
) -> tuple[int | None, str | None]:
    """Return for how many layers a checkpoint holds scales, and where the engine's are others.

    ``layers`` are the engine's quantized ones, ``directory`` holds the checkpoint (None: nothing is known),
    and ``announced`` is what `announces_scales` says.
    """
    if directory is None:
        return None, None
    stored = read_checkpoint_scales(directory)
    return len(stored), first_difference(layers, stored, announced=announced)


def read_checkpoint_scales(directory: Path) -> dict[int, LayerScales]:
    """Return by layer the scales that a directory's safetensors files hold.

    A layer of which only one is stored has it for both. Scales of several numbers (one for each head) are
    left out, and so are files that cannot be read: an engine that loads them has its own word about that.
    """
    found: dict[int, dict[str, float]] = {}
    for file in sorted(directory.glob("*.safetensors")):
        for layer, sides, value in _scales_in(file):
            found.setdefault(layer, {}).update(dict.fromkeys(sides, value))
    return {layer: _whole(layer, found[layer]) for layer in sorted(found)}


def announces_scales(quantization_config: Json) -> bool:
    """Whether that part of a model's ``config.json`` has the cache quantized with stored scales."""
    scheme = quantization_config.get("kv_cache_scheme") if isinstance(quantization_config, dict) else None
    return isinstance(scheme, dict) and scheme.get("dynamic") is False


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
        if wanted and (fault := _fault((layer.k, layer.v), (wanted.k, wanted.v))):
            return f"layer {layer.layer} {fault}"
    return None


def _whole(layer: int, stored: Mapping[str, float]) -> LayerScales:
    k, v = (stored.get(one, stored.get(other, 1.0)) for one, other in ("kv", "vk"))
    return LayerScales(layer, k, v)


def _fault(having: tuple[float, float], wanted: tuple[float, float]) -> str | None:
    if _equal(having, wanted):
        return None
    (k, v), (stored_k, stored_v) = having, wanted
    told = f"(k {k:.4g}, v {v:.4g}; the checkpoint says k {stored_k:.4g}, v {stored_v:.4g})"
    if _equal(having, (1.0, 1.0)):
        return f"has lost its scales {told}"
    if _equal(having, wanted[::-1]):
        return f"has those of keys and values swapped {told}"
    return f"has other scales {told}"


def _equal(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(math.isclose(a, b, rel_tol=_RELATIVE) for a, b in zip(one, other, strict=True))


def _scales_in(file: Path) -> Iterator[tuple[int, str, float]]:
    """Yield (layer, ``k``, ``v`` or ``kv``, scale) of one safetensors file."""
    try:
        with file.open("rb") as stream:
            header, begin = _header(stream)
            for name, tensor in header.items():
                match = _NAME.search(name)
                value = _number(stream, tensor, begin) if match else None
                if match and value is not None:
                    yield int(match["layer"]), match["one"] or match["cache"] or match["proj"] or "kv", value
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error):
        return


def _header(stream: BinaryIO) -> tuple[dict[str, Any], int]:
    """Return the table of tensors, and where their bytes begin."""
    (length,) = struct.unpack("<Q", stream.read(8))
    if length > _LONGEST_HEADER:
        raise ValueError("no safetensors file")
    header: dict[str, Any] = json.loads(stream.read(length))
    return header, 8 + length


def _number(stream: BinaryIO, tensor: Mapping[str, Any], begin: int) -> float | None:
    """Return the only number of a tensor, None if it has several or is of a type that no scale has."""
    reader = _READERS.get(tensor["dtype"])
    if reader is None or math.prod(tensor["shape"]) != 1:
        return None
    start, end = tensor["data_offsets"]
    stream.seek(begin + start)
    raw = np.frombuffer(stream.read(end - start), reader)
    return float(_of_bfloat16(raw)[0] if tensor["dtype"] == "BF16" else raw[0])


def _of_bfloat16(raw: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (raw.astype("<u4") << 16).view("<f4")
