"""Checkpoints and settings that the real engine refuses, and a checkpoint that is no baseline."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import processes
import pytest
import scripted
from real_engine import TIMEOUT, spec, started

from pytest_kvcache import refmodels
from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.errors import EngineError
from pytest_kvcache.plan import Request, make_plan
from pytest_kvcache.policy import Policy
from pytest_kvcache.records import EngineSpec, ReasonCode, VerdictKind
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
    scheme = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False, "symmetric": True}
    quantization = {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "config_groups": {},
        "kv_cache_scheme": scheme,
    }
    model = str(variation(tmp_path / "model", quantization_config=quantization))
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
