"""Checkpoints that the real engine refuses, one that is no baseline, and scales that it loads or not."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
import scripted
from real_engine import TIMEOUT, spec, started

from pytest_kvcache import refmodels
from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.errors import EngineError
from pytest_kvcache.plan import Request, make_plan
from pytest_kvcache.policy import Limits, Policy
from pytest_kvcache.records import (
    EngineSpec,
    Output,
    Prompt,
    Provenance,
    ReasonCode,
    Sampling,
    Score,
    ScoreRequest,
    VerdictKind,
)
from pytest_kvcache.session import Session
from pytest_kvcache.store import RunStore

pytestmark = pytest.mark.vllm

SET = scripted.prompt_set(max_tokens=8)


@pytest.fixture(scope="module", autouse=True)
def mark() -> Iterator[str]:
    with processes.new_mark() as value:
        yield value


def variation(directory: Path, *without: str, **config: Any) -> Path:
    """Return a copy of the tiny model, its files linked, with other configuration and fewer files."""
    directory.mkdir()
    source = refmodels.ensure("tiny-qwen3")
    for file in source.iterdir():
        if file.name not in ("config.json", *without):
            (directory / file.name).symlink_to(file)
    settings = json.loads((source / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(settings | config))
    return directory


def without_tensors(directory: Path, **config: Any) -> Path:
    variation(directory, "model.safetensors", **config)
    header = b"{}      "
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return directory


def unknown_architecture(directory: Path) -> EngineSpec:
    return spec(str(without_tensors(directory, model_type="nobody", architectures=["NobodyLM"])), "auto")


def missing_weights(directory: Path) -> EngineSpec:
    return spec(str(without_tensors(directory)), "auto")


def odd_heads(directory: Path) -> EngineSpec:
    return spec(str(variation(directory, head_dim=48)), "fp8_e4m3", load_format="dummy")


def calibrated() -> dict[str, Any]:
    """What a checkpoint with calibrated scales says in its configuration."""
    from pytest_kvcache.refmodels.scales import QUANTIZATION_CONFIG  # needs torch

    return QUANTIZATION_CONFIG


def five_exponent_bits_for_calibrated_scales(directory: Path) -> EngineSpec:
    model = variation(directory, quantization_config=calibrated())
    return spec(str(model), "fp8_e5m2")


def impossible_dtype(_: Path) -> EngineSpec:
    return spec("ref:tiny-qwen3", "nvfp4")


def enormous_cache(_: Path) -> EngineSpec:
    return spec("ref:tiny-qwen3", "auto", kv_cache_memory_bytes=1 << 42)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (unknown_architecture, "model type `nobody`"),
        (missing_weights, "not initialized from checkpoint"),
        (odd_heads, "head_size divisible by 32"),
        (five_exponent_bits_for_calibrated_scales, "fp8_e5m2 kv-cache is not supported with fp8 checkpoints"),
        (impossible_dtype, "'nvfp4' cannot run on this platform"),
        (enormous_cache, "memory .* is less than requested"),
    ],
)
def test_a_refusal_is_vllms_own_telling_line(
    wanted: Callable[[Path], EngineSpec], reason: str, tmp_path: Path, mark: str
) -> None:
    with (
        pytest.raises(EngineError, match=reason) as caught,
        started(wanted(tmp_path / "model"), tmp_path),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert processes.marked(mark) == []


def test_a_checkpoint_that_asks_for_an_fp8_cache_is_no_baseline(tmp_path: Path) -> None:
    model = str(variation(tmp_path / "model", quantization_config=calibrated()))
    target = scripted.target(EngineSpec(model, "fp8_e4m3"), EngineSpec(model, "auto"))
    session = Session(
        make_plan([Request(target, (SET,), with_scores=True)]),
        RunStore(tmp_path / "run"),
        child_engine_factory(TIMEOUT),
        DevicePool(),
    )
    verdict = session.verdict(target, [SET], Policy(), date(2026, 1, 1))
    assert session.outputs(target.of_baseline(), SET).provenance.kv_cache_quantized
    assert verdict.verdict is VerdictKind.FAIL
    assert ReasonCode.BASELINE_QUANTIZED in {reason.code for reason in verdict.reasons}
    assert "--kv-baseline=bfloat16" in verdict.summary


# Scales of real checkpoints


OPENINGS = (
    "The capital of France is",
    "def fibonacci(n):",
    "Water boils at a temperature of",
    "Once upon a time, in a small village,",
)
HARMLESS = Limits().delta_nll
"""Nats a token that a verdict lets a candidate lose."""


@dataclass(frozen=True)
class Life:
    """All that is left of one engine."""

    provenance: Provenance
    outputs: tuple[Output, ...]
    scores: tuple[Score, ...]
    """Of the texts of the first engine."""


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Life]:
    """Engines under the name of their model and kv dtype, that all score what the first one wrote."""
    directory = tmp_path_factory.mktemp("lives")
    first = live("ref:gqa", "auto", directory)
    others = [
        ("ref:gqa-saturated-v", "auto"),
        ("ref:gqa-saturated-v-scaled", "auto"),
        ("ref:gqa-saturated-v-scaled", "bfloat16"),
        ("ref:gqa-saturated-v-lost", "auto"),
    ]
    return {"ref:gqa auto": first} | {
        f"{model} {dtype}": live(model, dtype, directory, first.outputs) for model, dtype in others
    }


def live(model: str, dtype: str, directory: Path, texts: tuple[Output, ...] | None = None) -> Life:
    prompts = [Prompt(f"text-{number}", "completion", text=text) for number, text in enumerate(OPENINGS)]
    with started(spec(model, dtype, max_model_len=512), directory) as (engine, _):
        outputs = engine.generate(prompts, Sampling(max_tokens=48, ignore_eos=True))
        requests = [ScoreRequest(o.prompt_id, o.prompt_token_ids, o.token_ids) for o in (texts or outputs)]
        scores = engine.score(requests, top_k=5)
    return Life(engine.provenance, outputs, scores)


def nats_lost(candidate: Life, baseline: Life) -> float:
    """Return by how much the candidate is less sure of the texts, a token."""
    given = [
        np.concatenate([np.frombuffer(score.logprobs, "<f4") for score in life.scores])
        for life in (baseline, candidate)
    ]
    return float(np.mean(given[0] - given[1]))


def test_larger_values_change_nothing_without_quantization(lives: dict[str, Life]) -> None:
    one, other = lives["ref:gqa auto"], lives["ref:gqa-saturated-v auto"]
    assert [output.token_ids for output in other.outputs] == [output.token_ids for output in one.outputs]
    assert [score.logprobs for score in other.scores] == [score.logprobs for score in one.scores]


def test_calibrated_scales_are_loaded_and_keep_values_from_saturating(lives: dict[str, Life]) -> None:
    scaled = lives["ref:gqa-saturated-v-scaled auto"]
    assert (scaled.provenance.kv_cache_dtype, scaled.provenance.kv_scales) == ("fp8_e4m3", "calibrated")
    assert nats_lost(scaled, lives["ref:gqa auto"]) < HARMLESS


def test_without_its_scales_the_same_checkpoint_is_served_with_1_and_ruined(lives: dict[str, Life]) -> None:
    lost = lives["ref:gqa-saturated-v-lost auto"]
    assert (lost.provenance.kv_cache_dtype, lost.provenance.kv_scales) == ("fp8_e4m3", "unit")
    assert nats_lost(lost, lives["ref:gqa auto"]) > 5 * HARMLESS


def test_bfloat16_asked_for_by_name_is_a_baseline_for_a_checkpoint_whose_auto_is_fp8(
    lives: dict[str, Life],
) -> None:
    baseline = lives["ref:gqa-saturated-v-scaled bfloat16"]
    assert (baseline.provenance.kv_cache_dtype, baseline.provenance.kv_scales) == ("bfloat16", "none")
    assert nats_lost(baseline, lives["ref:gqa auto"]) == 0
