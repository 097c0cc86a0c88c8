"""Reference models in the real engine that show no more than that it starts, stores and scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from real_engine import spec, started

from pytest_kvcache.engines.vllm_scoring import AGREEMENT
from pytest_kvcache.records import Output, Prompt, Provenance, Sampling, Score, ScoreRequest

pytestmark = pytest.mark.vllm

PROMPTS = (Prompt("hello", "completion", text="Hello"), Prompt("once", "completion", text="Once upon a time"))
TOKENS = 8


@dataclass(frozen=True)
class Life:
    """All that is left of one engine."""

    provenance: Provenance
    outputs: tuple[Output, ...]
    scores: tuple[Score, ...]


def live(model: str, dtype: str, directory: Path, **arguments: object) -> Life:
    with started(spec(model, dtype, max_model_len=512, **arguments), directory) as (engine, _):
        outputs = engine.generate(PROMPTS, Sampling(max_tokens=TOKENS, ignore_eos=True))
        requests = [ScoreRequest(o.prompt_id, o.prompt_token_ids, o.token_ids) for o in outputs]
        scores = engine.score(requests, top_k=5)
    return Life(engine.provenance, outputs, scores)


def test_the_tiny_qwen3_writes_from_a_quantized_cache(tmp_path: Path) -> None:
    life = live("ref:tiny-qwen3", "fp8_e4m3", tmp_path)
    assert life.provenance.kv_cache_dtype == "fp8_e4m3"
    assert [len(output.token_ids) for output in life.outputs] == [TOKENS] * len(PROMPTS)


@pytest.fixture(scope="module", params=["ref:qwen2-0.5b-shape", "ref:qwen2-7b-shape"])
def shape(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Life]:
    """One shape under each kv dtype."""
    directory = tmp_path_factory.mktemp("shape")
    return {
        dtype: live(request.param, dtype, directory, load_format="dummy")
        for dtype in ("auto", "fp8_e4m3", "fp8_e5m2")
    }


def test_the_heads_of_qwen2_run_under_every_kv_dtype(shape: dict[str, Life]) -> None:
    resolved = {dtype: life.provenance.kv_cache_dtype for dtype, life in shape.items()}
    assert resolved == {"auto": "bfloat16", "fp8_e4m3": "fp8_e4m3", "fp8_e5m2": "fp8_e5m2"}
    for life in shape.values():
        assert [len(output.token_ids) for output in life.outputs] == [TOKENS] * len(PROMPTS)
        assert [len(score.token_ids) for score in life.scores] == [TOKENS] * len(PROMPTS)


def test_both_ways_of_scoring_agree_for_the_heads_of_qwen2(shape: dict[str, Life]) -> None:
    for life in shape.values():
        assert life.provenance.scoring_difference is not None
        assert life.provenance.scoring_difference <= AGREEMENT


def test_eight_bits_hold_twice_the_tokens_for_the_heads_of_qwen2(shape: dict[str, Life]) -> None:
    capacity = {dtype: life.provenance.kv_capacity_tokens for dtype, life in shape.items()}
    assert capacity["fp8_e4m3"] == capacity["fp8_e5m2"] == 2 * capacity["auto"]
