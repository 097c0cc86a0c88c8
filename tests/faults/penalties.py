"""Penalties: how a fault makes the sampler take one kind of them for none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from vllm.v1.sample.sampler import Sampler

from faults.patching import around


def ignore(kind: str, *, without_effect: float = 0) -> None:
    """Let the sampler skip penalties of this kind: the name of a field of its metadata."""

    @around(Sampler, "apply_penalties")
    def skip(apply: Any, logits: Any, metadata: Any, written: Any) -> Any:
        without = replace(metadata, **{kind: torch.full_like(getattr(metadata, kind), without_effect)})
        return apply(logits, without, written)
