"""Scales: what a calibrated checkpoint says of its cache, measured as calibration tools do.

The scale of a layer's keys is the largest key, in absolute value, that came up in some texts, over the
largest number of e4m3: the engine divides by it before it stores a key, and multiplies by it after. So
with values. The layout is that of compressed-tensors checkpoints, with one scale for each layer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pytest_kvcache.refmodels.layout import Tensors
from pytest_kvcache.refmodels.recipes import ScalesFault

E4M3_MAX = 448.0
TEXTS = (
    (
        "Why is the sky blue?",
        "Air scatters blue light more than red light, so blue reaches us from everywhere.",
    ),
    (
        "Write a Python function that adds the even numbers of a list.",
        "```python\ndef add_even(numbers):\n    return sum(n for n in numbers if n % 2 == 0)\n```",
    ),
    ("List the months with 30 days.", "1. April\n2. June\n3. September\n4. November"),
    ("What is 17 times 23?", "17 x 23 = 17 x 20 + 17 x 3 = 340 + 51 = 391."),
    (
        "Describe Ada in JSON.",
        '{"name": "Ada", "born": 1815, "languages": ["English", "French"], "alive": false}',
    ),
    ("Raconte une histoire.", "Il était une fois un boulanger qui parlait à son four, et le four répondit."),
)
"""What the maxima are taken over: questions with answers, of several kinds."""

QUANTIZATION_CONFIG = {
    "quant_method": "compressed-tensors",
    "format": "dense",
    "quantization_status": "compressed",
    "config_groups": {},
    "ignore": [],
    "kv_cache_scheme": {
        "num_bits": 8,
        "type": "float",
        "strategy": "tensor",
        "dynamic": False,
        "symmetric": True,
    },
}
"""Makes an engine read scales, and store an e4m3 cache where nobody asks for another one."""


def calibrated(directory: Path) -> tuple[Tensor, Tensor]:
    """Return the scales of a checkpoint's keys and values, ``float32[layers]`` each."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16, local_files_only=True)
    maxima = torch.stack([_maxima(model, chat(tokenizer, *text)) for text in TEXTS]).amax(0)
    keys, values = (maxima / E4M3_MAX).unbind()
    return keys, values


def tensors(keys: Tensor, values: Tensor, fault: ScalesFault | None, factor: float) -> Tensors:
    """Return ``k_scale`` and ``v_scale`` of each layer, ``bf16[1]``, as the ``fault`` leaves them."""
    if fault == "lost":
        return {}
    if fault == "swapped":
        keys, values = values, keys
    named = {"k_scale": keys * factor, "v_scale": values * factor}
    return {
        f"model.layers.{layer}.self_attn.{name}": scale.to(torch.bfloat16).reshape(1)
        for name, scales in named.items()
        for layer, scale in enumerate(scales)
    }


def chat(tokenizer: Any, question: str, answer: str) -> Tensor:
    """Return the token ids of a question and its answer, ``int64[1, tokens]``."""
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    ids: list[int] = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    return torch.tensor([ids])


def _maxima(model: Any, ids: Tensor) -> Tensor:
    """Return the largest absolute key and value of every layer's cache, ``float32[2, layers]``."""
    with torch.no_grad():
        layers = model(ids, use_cache=True).past_key_values.layers
    return torch.stack(
        [torch.stack([layer.keys.abs().max(), layer.values.abs().max()]).float() for layer in layers], dim=1
    )
