"""Shapes: models without a base's weights, whose heads are laid out as those of another model.

They write noise, and show whether an engine starts, stores and scores, not what it writes.
"""

from __future__ import annotations

import math

import torch

from pytest_kvcache.refmodels.layout import Config, Tensors
from pytest_kvcache.refmodels.recipes import Qwen2Shape, RandomQwen3

_OF_TOKENIZER = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")


def qwen3_config(recipe: RandomQwen3, source: Config) -> Config:
    """Return the configuration of a random Qwen3 with the tokenizer of ``source``."""
    return _of_tokenizer(source) | {
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


def qwen2_config(recipe: Qwen2Shape, source: Config) -> Config:
    """Return the configuration of a Qwen2 with the tokenizer of ``source``; head size is hidden / heads."""
    return _of_tokenizer(source) | {
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "hidden_size": recipe.hidden,
        "intermediate_size": recipe.intermediate,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "num_key_value_heads": recipe.kv_heads,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        "use_sliding_window": False,
        "tie_word_embeddings": True,
    }


def qwen3_tensors(recipe: RandomQwen3, vocabulary: int) -> Tensors:
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


def _of_tokenizer(source: Config) -> Config:
    return {key: source[key] for key in _OF_TOKENIZER}


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
