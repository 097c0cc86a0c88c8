"""A small base to build reference models from, and what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from pytest_kvcache.refmodels import checkpoint, layout
from pytest_kvcache.refmodels.recipes import Recipe

HEAD_DIM, HEADS, KV_HEADS, LAYERS = 64, 4, 2, 4
HIDDEN = HEAD_DIM * HEADS


def write_base(directory: Path) -> Path:
    """Write a random four-layer base in the layout of the real one, and return its directory."""
    directory.mkdir()
    generator = torch.Generator().manual_seed(0)
    body, keys_values = {"model.embed_tokens.weight": torch.randn(32, HIDDEN, generator=generator)}, {}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}.self_attn"
        for name in ("q_proj", "o_proj"):
            body[f"{prefix}.{name}.weight"] = torch.randn(HIDDEN, HIDDEN, generator=generator)
        for name in ("k_proj", "v_proj"):
            weight = torch.randn(KV_HEADS * HEAD_DIM, HIDDEN, generator=generator)
            keys_values[f"{prefix}.{name}.weight"] = weight
    for shard, tensors in ((layout.BODY_SHARD, body), (layout.ATTENTION_SHARD, keys_values)):
        save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, directory / shard)
    config = {
        "model_type": "llama",
        "attention_bias": False,
        "head_dim": HEAD_DIM,
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "num_hidden_layers": LAYERS,
        "vocab_size": 32,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    (directory / "config.json").write_text(json.dumps(config))
    for name in layout.TOKENIZER_FILES:
        (directory / name).write_text("{}")
    return directory


def written(recipe: Recipe, base: Path, tmp_path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the configuration and the tensors of a recipe's checkpoint, written to a new ``target``."""
    target = tmp_path / "target"
    target.mkdir(parents=True)
    checkpoint.write_checkpoint(recipe, base, target)
    tensors: dict[str, Any] = {}
    for shard in target.glob("*.safetensors"):
        tensors |= load_file(shard)
    return json.loads((target / "config.json").read_text()), tensors


class AnyTokens:
    """A tokenizer that makes the same tokens of every chat."""

    def apply_chat_template(self, *_: object, **__: object) -> list[int]:
        return list(range(32))


def small_qwen2(kv_heads: int) -> Any:
    """Return a random Qwen2 in float32 with biases, sharp enough to tell positions apart."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=32,
        hidden_size=HIDDEN,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=kv_heads,
        initializer_range=2 * HIDDEN**-0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(config).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("_proj.bias"):
                torch.nn.init.normal_(parameter)
    return model


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(torch.arange(32)[None]).logits
