"""Measuring: pytest-benchmark takes the times, and the run's reports set them beside the baseline's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import pytest_kvcache as kv
from pytest_kvcache.performance import Figure, Rounds, put_rounds
from pytest_kvcache.plugin import RUN

ROUNDS = 5


@dataclass(frozen=True)
class Measure:
    """Measures a figure in rounds of equal work, the first of which, to warm up, does not count."""

    engine: kv.EngineHandle
    benchmark: Any
    directory: Path

    def __call__(self, figure: Figure, prompts: Sequence[kv.Prompt], tokens: int) -> None:
        """Have so many tokens written for each prompt, in one batch, whatever the model would rather say."""
        target, benchmark = self.engine.target, self.benchmark
        benchmark.group = f"{figure}, baseline {target.baseline_id}"
        benchmark.params = {"vllm_engine": target.id}
        benchmark.pedantic(self._generate, (prompts, tokens), rounds=ROUNDS, warmup_rounds=1)
        benchmark.extra_info.update(_conditions(self.engine.provenance), prompts=len(prompts), tokens=tokens)
        seconds = benchmark.stats.stats.data
        work = len(prompts) * tokens
        values = [work / each for each in seconds] if figure == "tokens_per_second" else seconds
        put_rounds(self.directory, Rounds(target.id, figure, tuple(values)))

    def _generate(self, prompts: Sequence[kv.Prompt], tokens: int) -> None:
        outputs = self.engine.generate(prompts, max_tokens=tokens, ignore_eos=True)
        if any(len(output.token_ids) != tokens for output in outputs):
            raise kv.EngineError(f"not every output has the {tokens} tokens asked for: its time says nothing")


@pytest.fixture
def benchmark(request: pytest.FixtureRequest) -> Any:
    """pytest-benchmark's own fixture; where that takes no times, the test is skipped with the reason."""
    try:
        fixture = request.getfixturevalue("benchmark")
    except pytest.FixtureLookupError:
        pytest.skip("pytest-benchmark is not installed")
    if not fixture.enabled:
        fixture.skipped = True  # else it warns that nobody used it
        pytest.skip("pytest-benchmark takes no times under xdist, nor with --benchmark-disable")
    return fixture


@pytest.fixture
def measure(request: pytest.FixtureRequest, vllm_engine: kv.EngineHandle, benchmark: Any) -> Measure:
    """Measures on the target's engine, for the reports of the run."""
    return Measure(vllm_engine, benchmark, request.config.stash[RUN].directory)


def _conditions(provenance: kv.Provenance) -> dict[str, object]:
    """Return what a stored measurement must have in common with another to be compared with it."""
    return {
        "model_id": provenance.model_id,
        "kv_cache_dtype": provenance.kv_cache_dtype,
        "device": provenance.device,
        "threads": provenance.threads,
        "versions": dict(provenance.versions),
    }
