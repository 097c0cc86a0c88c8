"""Goldens of a team's repository: what the scripted engine writes, without a run of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import scripted
from scripted_engine import Script

from pytest_kvcache.engines import wire
from pytest_kvcache.engines.pool import TOP_K, floor_requests
from pytest_kvcache.golden import GoldenDirectory
from pytest_kvcache.plan import is_scored
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import EngineSpec, Golden, OutputSet, PromptSet, ScoreRequest, ScoreSet


def golden(prompt_set: PromptSet, spec: EngineSpec | None = None) -> Golden:
    """Return what the scripted engine writes as a baseline."""
    spec = spec or scripted.spec()
    script = Script(wire.Start(spec, "", (0,), ""))
    outputs = tuple(script.generate(prompt, prompt_set.sampling) for prompt in prompt_set.prompts)
    texts = OutputSet(spec, prompt_set, script.provenance(), outputs, 1.0)
    if not is_scored(prompt_set):
        return Golden(spec.kv_cache_dtype, texts, None, None)
    requests = [ScoreRequest(o.prompt_id, o.prompt_token_ids, o.token_ids) for o in outputs]
    scores = tuple(script.score(request, TOP_K) for request in requests)
    floor = tuple(script.score(request, TOP_K, "decode") for request in floor_requests(texts))
    return Golden(
        spec.kv_cache_dtype,
        texts,
        ScoreSet(spec, prompt_set, spec.key, scores, 1.0),
        ScoreSet(spec, prompt_set, spec.key, floor, 1.0),
    )


def keep_goldens(
    project: pytest.Pytester,
    *prompt_sets: str,
    spec: EngineSpec | None = None,
    change: Callable[[Golden], Golden] = lambda golden: golden,
) -> list[Path]:
    """Keep goldens of shipped sets in a repository; return their text files."""
    goldens = [change(golden(load_prompt_set(name), spec)) for name in prompt_sets]
    written = GoldenDirectory(project.path / "golden").commit(goldens)
    return [path for path in written if path.suffix == ".json"]
