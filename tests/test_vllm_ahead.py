"""The real engine in a process that was started before its turn is the engine that it would have been."""

from __future__ import annotations

from pathlib import Path

import processes
import pytest
import scripted
from real_engine import TIMEOUT, engine_pids, spec, started

from pytest_kvcache.engines import Turn
from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.launch import child_engine_factory

pytestmark = pytest.mark.vllm

SET = scripted.prompt_set(max_tokens=16)


def test_an_engine_whose_process_waited_writes_what_one_started_at_once_writes(tmp_path: Path) -> None:
    baseline, candidate = (spec("ref:tiny-qwen3", dtype) for dtype in ("auto", "fp8_e4m3"))
    with started(candidate, tmp_path) as (engine, _):
        at_once = engine.generate(SET.prompts, SET.sampling)
    factory = child_engine_factory(TIMEOUT)
    with processes.new_mark() as mark, DevicePool().hold() as slot:
        first, second = (Turn(each, slot, tmp_path / "ahead.log") for each in (baseline, candidate))
        factory.prepare(first, second)
        factory(*first, lambda *_: None).close()
        waiting = engine_pids(mark)
        engine = factory(*second, lambda *_: None)
        assert engine_pids(mark) == waiting
        assert len(waiting) == 1
        outputs = engine.generate(SET.prompts, SET.sampling)
        engine.close()
        assert not processes.marked(mark)
    assert [output.token_ids for output in outputs] == [output.token_ids for output in at_once]
