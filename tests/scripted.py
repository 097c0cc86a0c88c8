"""What tests of the run share: the command of the scripted engine, and specs and sets to give it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pytest_kvcache.plan import Target
from pytest_kvcache.records import EngineSpec, Prompt, PromptSet, Sampling

COMMAND = (sys.executable, str(Path(__file__).with_name("scripted_engine.py")))


def spec(dtype: str = "auto", model: str = "scripted/model", **arguments: Any) -> EngineSpec:
    """Return a spec whose engine arguments are instructions to the scripted engine."""
    texts = sorted((name, json.dumps(value)) for name, value in arguments.items())
    return EngineSpec(model, dtype, None, tuple(texts))


def target(candidate: EngineSpec, baseline: EngineSpec) -> Target:
    return Target(
        id=f"model-{candidate.kv_cache_dtype}",
        spec=candidate,
        kv_dtype=candidate.kv_cache_dtype,
        variant=None,
        baseline=baseline,
        baseline_id=f"model-{baseline.kv_cache_dtype}",
    )


def prompt_set(name: str = "small", prompts: int = 4, **sampling: Any) -> PromptSet:
    kinds = ("chat", "code", "list", "zh")
    return PromptSet(
        name,
        tuple(Prompt(f"p{i}", kinds[i % len(kinds)], text=f"prompt {i}") for i in range(prompts)),
        Sampling(**{"max_tokens": 16, **sampling}),
    )
