"""Calibration: what the linear layers of a model are given while it reads conversations of its own.

The conversations are ``calibration.jsonl``: prompts of the set ``full`` and what ``gqa`` answered to them,
greedily, with an unquantized cache. They are kept as text, so that everybody calibrates on the same.
"""

from __future__ import annotations

import json
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pytest_kvcache.refmodels.scales import chat


def hessians(directory: Path) -> dict[str, Tensor]:
    """Return ``X^T X``, ``float32[in, in]``, over all inputs ``X`` of each linear layer of a checkpoint, by
    the name of its weight: what GPTQ weighs errors by, but for a factor that does not matter."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, local_files_only=True)
    sums: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if name.endswith("_proj"):
            weight = f"{name}.weight"
            sums[weight] = torch.zeros(module.in_features, module.in_features)
            module.register_forward_pre_hook(partial(_add, sums[weight]))
    with torch.no_grad():
        for question, answer in conversations():
            model(chat(tokenizer, question, answer))
    return sums


def conversations() -> list[tuple[str, str]]:
    """Return the questions and answers."""
    lines = files(__package__).joinpath("calibration.jsonl").read_text("utf-8").splitlines()
    return [(line["question"], line["answer"]) for line in map(json.loads, lines)]


def _add(total: Tensor, _: Any, inputs: tuple[Tensor, ...]) -> None:
    rows = inputs[0].flatten(0, -2)
    total += rows.T @ rows
