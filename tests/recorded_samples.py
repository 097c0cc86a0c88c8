"""A run recorded of one reference model, healthy under e4m3 and ruined under e5m2: to test benchmarks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from verdict_samples import PROVENANCE, QUANTIZED, output_set, prose, scores

from pytest_kvcache.plan import is_scored
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import PromptSet
from pytest_kvcache.store import RunStore

HARM = {"fp8_e4m3": 0.03, "fp8_e5m2": 0.6}
"""Nats per token that each kv dtype costs."""
SETS = ("smoke", "smoke-penalised", "smoke-tasks")


def recorded_store(root: Path) -> RunStore:
    """Keep what ``ref:gqa`` would give for the smoke sets under ``auto`` and both kv dtypes."""
    store = RunStore(root)
    for name in SETS:
        _record(store, load_prompt_set(name))
    return store


def _record(store: RunStore, prompts: PromptSet) -> None:
    baseline = output_set(prompts, PROVENANCE, lambda i: _answer(prompts, i) or prose(i, 160))
    store.put_outputs(baseline)
    if is_scored(prompts):
        own = scores(baseline)
        store.put_scores(own)
        store.put_floor(replace(own, scores=tuple(score.first(32) for score in own.scores[:8])))
    for dtype, harm in HARM.items():
        knows = harm < 0.1
        candidate = output_set(
            prompts,
            replace(QUANTIZED, kv_cache_dtype=dtype),
            lambda i, knows=knows: (knows and _answer(prompts, i)) or prose(900 + i, 160),  # type: ignore[misc]
            dtype,
        )
        store.put_outputs(candidate)
        if is_scored(prompts):
            judged = scores(baseline, lambda i, harm=harm: harm + 0.01 * (i % 3), lambda _: 0.05)  # type: ignore[misc]
            store.put_scores(replace(judged, spec=candidate.spec))


def _answer(prompts: PromptSet, i: int) -> str | None:
    return prompts.prompts[i].answer
