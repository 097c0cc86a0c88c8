"""Does the number of threads change what an engine writes? If so, it is part of the engine's identity.

    python benchmarks/threads.py [--model gqa]

Generates and scores the smoke set under ``auto`` and ``fp8`` on one core and on all that this process may
use, and compares tokens and log-probabilities. One engine runs at a time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from pytest_kvcache.engines.devices import Slot
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import EngineSpec, Output, Score, ScoreRequest

SET = load_prompt_set("smoke")


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare an engine on one core and on all.")
    parser.add_argument("--model", default="gqa", help="a reference model (default: gqa)")
    model = f"ref:{parser.parse_args().model}"
    cores = tuple(sorted(os.sched_getaffinity(0)))
    for dtype in ("auto", "fp8_e4m3"):
        texts: tuple[Output, ...] | None = None
        written: list[tuple[Output, ...]] = []
        scored: list[tuple[Score, ...]] = []
        for slot in (cores[:1], cores):
            outputs, scores = run(EngineSpec(model, dtype), slot, texts)
            texts = texts or outputs
            written.append(outputs)
            scored.append(scores)
        same = sum(a.token_ids == b.token_ids for a, b in zip(*written, strict=True))
        equal = sum(a.logprobs == b.logprobs for a, b in zip(*scored, strict=True))
        total = len(SET.prompts)
        print(
            f"{dtype}: on 1 and on {len(cores)} cores {same} of {total} outputs are equal, token by token, "
            f"and {equal} of {total} scores of the same texts, bit by bit"
        )
    return 0


def run(
    spec: EngineSpec, cores: tuple[int, ...], texts: tuple[Output, ...] | None
) -> tuple[tuple[Output, ...], tuple[Score, ...]]:
    """Generate on these cores, and score ``texts`` (else what was generated)."""
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch, "engine.log")
        engine = child_engine_factory(1200)(spec, Slot("cpu", cores), log, lambda *_: None)
        began = time.monotonic()
        outputs = engine.generate(SET.prompts, SET.sampling)
        generated = time.monotonic()
        requests = [ScoreRequest(o.prompt_id, o.prompt_token_ids, o.token_ids) for o in texts or outputs]
        scores = engine.score(requests)
        ended = time.monotonic()
        threads = engine.provenance.threads
        engine.close()
    tokens = sum(len(o.token_ids) for o in outputs)
    print(
        f"{spec.kv_cache_dtype} on {threads} threads: {tokens / (generated - began):.0f} tokens/s generated, "
        f"{sum(len(r.token_ids) for r in requests) / (ended - generated):.0f} scored",
        flush=True,
    )
    return outputs, scores


if __name__ == "__main__":
    sys.exit(main())
