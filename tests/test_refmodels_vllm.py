"""Reference models in the real engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.records import EngineSpec, Prompt, Sampling

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.vllm
def test_the_tiny_qwen3_writes_from_a_quantized_cache(tmp_path: Path) -> None:
    spec = EngineSpec("ref:tiny-qwen3", "fp8_e4m3", engine_args=(("max_model_len", "512"),))
    start = child_engine_factory(timeout=300)
    with DevicePool().hold() as slot:
        engine = start(spec, slot, tmp_path / "engine.log", lambda *_: None)
        try:
            sampling = Sampling(max_tokens=8, ignore_eos=True)
            (output,) = engine.generate([Prompt("hello", "completion", text="Hello")], sampling)
        finally:
            engine.close()
    assert engine.provenance.kv_cache_dtype == "fp8_e4m3"
    assert len(output.token_ids) == 8
