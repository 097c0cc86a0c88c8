"""Layout: which files a checkpoint has, and how they are read, written and shared."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

Tensors = dict[str, Tensor]
Config = dict[str, Any]

BODY_SHARD = "model-00001-of-00002.safetensors"
"""What rewriting leaves alone."""
ATTENTION_SHARD = "model-00002-of-00002.safetensors"
"""``k_proj`` and ``v_proj`` of every layer, and the biases of attention."""
SCALES_SHARD = "kv-scales.safetensors"
"""Scales of the cache, beside all shards of the base."""
WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
)


def shards(directory: Path) -> list[str]:
    """Return the names of a checkpoint's weight files, in order."""
    return sorted(path.name for path in directory.glob("*.safetensors"))


def load(directory: Path) -> Tensors:
    """Return all tensors of a checkpoint."""
    tensors: Tensors = {}
    for name in shards(directory):
        tensors |= load_file(directory / name)
    return tensors


def save(tensors: Tensors, path: Path) -> None:
    save_file(tensors, path, metadata={"format": "pt"})


def link(base: Path, names: Iterable[str], target: Path) -> None:
    """Put files of ``base`` into ``target`` without taking room for them, where hard links exist."""
    for name in names:
        try:
            os.link(base / name, target / name)
        except OSError:
            shutil.copyfile(base / name, target / name)


def write_index(target: Path) -> None:
    """Write which tensor lies in which shard."""
    names = shards(target)
    weight_map = {tensor: shard for shard in names for tensor in _tensor_names(target / shard)}
    size = sum((target / shard).stat().st_size for shard in names)
    _write_json(target / INDEX, {"metadata": {"total_size": size}, "weight_map": weight_map})


def copy_tokenizer(base: Path, target: Path) -> None:
    for name in TOKENIZER_FILES:
        shutil.copyfile(base / name, target / name)


def read_config(directory: Path) -> Config:
    config: Config = json.loads((directory / "config.json").read_bytes())
    return config


def write_config(target: Path, config: Config, dtype: str = "bfloat16") -> None:
    _write_json(target / "config.json", config | {"dtype": dtype})


def _tensor_names(path: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
