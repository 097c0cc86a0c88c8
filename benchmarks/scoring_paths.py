"""Do both ways of scoring agree, what does each cost beside generation, and how large is the noise floor?

    python benchmarks/scoring_paths.py [--models gqa gqa-kbias] [--dtypes fp8_e4m3 fp8_e5m2]

For each model the baseline writes answers to 16 prompts of the smoke set, and every engine scores them by
prefill and by decoding. Prints one line per engine, then the floor: what the baseline gives the same texts
one at a time. The last lines compare a run without what lets an engine follow a text. One engine runs at a
time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from pytest_kvcache.engines import Engine
from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.launch import VLLM_COMMAND, child_engine_factory
from pytest_kvcache.engines.pool import FLOOR_TEXTS, FLOOR_TOKENS
from pytest_kvcache.measures.divergence import divergence
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import EngineSpec, Output, Score, ScoreRequest, ScoreSet, ScoringPath
from pytest_kvcache.store import RunStore

SET = load_prompt_set("smoke")
PROMPTS = SET.prompts[:16]
WITHOUT = """\
import sys
from pytest_kvcache.engines import vllm_child
vllm_child.following_arguments = lambda *_: {}
vllm_child.main(sys.argv[1:])
"""
"""An engine that is started without anything that lets it follow a text."""


@dataclass(frozen=True)
class Scored:
    scores: tuple[Score, ...]
    seconds: float

    @property
    def speed(self) -> float:
        return sum(len(score.token_ids) for score in self.scores) / self.seconds


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare both ways of scoring.")
    parser.add_argument("--models", nargs="+", default=["gqa", "gqa-kbias"], help="reference models")
    parser.add_argument("--dtypes", nargs="+", default=["fp8_e4m3", "fp8_e5m2"], help="candidates")
    options = parser.parse_args()
    print(
        "model, dtype | probe | mean, max |decode - prefill| | same top | equal texts | unread | tokens/s",
        flush=True,
    )
    for model in options.models:
        compare_paths(f"ref:{model}", options.dtypes)
    compare_without(f"ref:{options.models[0]}")
    return 0


def compare_paths(model: str, dtypes: Sequence[str]) -> None:
    with started(EngineSpec(model, "auto")) as engine:
        texts, generated = generate(engine)
        baseline = show(engine, texts, None, generated)
        show_floor(engine, texts, baseline.scores)
        show_size(engine.spec, baseline)
    for dtype in dtypes:
        with started(EngineSpec(model, dtype)) as engine:
            show(engine, texts, baseline.scores, None)


def generate(engine: Engine) -> tuple[tuple[Output, ...], float]:
    """Return the outputs, and the tokens generated a second."""
    began = time.monotonic()
    outputs = engine.generate(PROMPTS, SET.sampling)
    return outputs, sum(len(o.token_ids) for o in outputs) / (time.monotonic() - began)


def score(engine: Engine, requests: Sequence[ScoreRequest], path: ScoringPath) -> Scored:
    began = time.monotonic()
    return Scored(engine.score(requests, path=path), time.monotonic() - began)


def show(
    engine: Engine, texts: Sequence[Output], baseline: Sequence[Score] | None, generated: float | None
) -> Scored:
    """Score by both ways, print how they compare, and return what prefill gives.

    "Unread" is what scores would look like that did not read the quantized cache: the baseline's, beside
    this engine's.
    """
    requests = [ScoreRequest(o.prompt_id, o.prompt_token_ids, o.token_ids) for o in texts if o.token_ids]
    prefill, decode = score(engine, requests, "prefill"), score(engine, requests, "decode")
    difference = np.abs(logprobs(decode.scores) - logprobs(prefill.scores))
    unread = np.abs(logprobs(decode.scores) - logprobs(baseline)).mean() if baseline else 0.0
    same = (tops(decode.scores) == tops(prefill.scores)).mean()
    equal = sum(a == b for a, b in zip(prefill.scores, decode.scores, strict=True))
    probe = f"{engine.provenance.scoring_difference:.4f} {engine.provenance.scoring}"
    print(
        f"{engine.spec.model}, {engine.spec.kv_cache_dtype} | {probe} | "
        f"{difference.mean():.4f}, {difference.max():.3f} | {same:.4f} | {equal} of {len(requests)} | "
        f"{unread:.4f} | "
        f"{f'{generated:.0f} generated, ' if generated else ''}"
        f"{prefill.speed:.0f} prefill, {decode.speed:.0f} decode ({len(difference)} tokens)",
        flush=True,
    )
    return prefill


def show_floor(engine: Engine, texts: Sequence[Output], batch: Sequence[Score]) -> None:
    """Score the beginnings of some texts one at a time, and print how that compares with the batch."""
    requests = [
        ScoreRequest(o.prompt_id, o.prompt_token_ids, o.token_ids[:FLOOR_TOKENS])
        for o in texts
        if len(o.token_ids) >= FLOOR_TOKENS
    ][:FLOOR_TEXTS]
    beginnings = {score.prompt_id: score.first(FLOOR_TOKENS) for score in batch}
    together = [beginnings[request.prompt_id] for request in requests]
    for path in ("prefill", "decode"):
        each = [score(engine, [request], path) for request in requests]
        alone = [single for scored in each for single in scored.scores]
        difference = np.abs(logprobs(alone) - logprobs(together)).mean()
        found = divergence(alone, together)
        print(
            f"  alone by {path}, {sum(scored.seconds for scored in each):.1f} s: "
            f"mean |difference| {difference:.4f}, delta NLL {found.delta_nll.value:+.4f}, "
            f"mean KLD {found.kld.value:.5f}, same top {found.same_top.value:.3f}",
            flush=True,
        )


def show_size(spec: EngineSpec, scored: Scored) -> None:
    """Print what a scored token takes on disk, beside JSON of the same."""
    entry = ScoreSet(spec, SET, spec.key, scored.scores, scored.seconds)
    tokens = sum(len(score.token_ids) for score in scored.scores)
    with tempfile.TemporaryDirectory() as scratch:
        RunStore(Path(scratch)).put_scores(entry)
        size = sum(path.stat().st_size for path in Path(scratch).rglob("scores-*"))
    print(
        f"  stored: {size / tokens:.0f} bytes a token, as JSON {len(msgspec.json.encode(entry)) / tokens:.0f}"
    )


def logprobs(scores: Sequence[Score]) -> NDArray[np.float64]:
    return np.concatenate([np.frombuffer(s.logprobs, np.float32).astype(np.float64) for s in scores])


def tops(scores: Sequence[Score]) -> NDArray[np.int32]:
    firsts = [np.frombuffer(s.top_ids, np.int32).reshape(-1, s.k)[:, 0] for s in scores]
    return np.concatenate(firsts)


def compare_without(model: str) -> None:
    """Show what it costs generation that an engine could follow a text."""
    written = []
    for name, command in (
        ("able to follow", VLLM_COMMAND),
        ("unable", (sys.executable, "-P", "-c", WITHOUT)),
    ):
        began = time.monotonic()
        with started(EngineSpec(model, "fp8_e4m3"), command) as engine:
            ready = time.monotonic() - began
            (outputs, *_), speeds = zip(*(generate(engine) for _ in range(4)), strict=True)
        written.append(outputs)
        print(f"{model}, {name}: {ready:.1f} s to start, {max(speeds):.0f} tokens/s generated", flush=True)
    same = sum(a.token_ids == b.token_ids for a, b in zip(*written, strict=True))
    print(f"{same} of {len(PROMPTS)} outputs are equal, token by token", flush=True)


@contextmanager
def started(spec: EngineSpec, command: tuple[str, ...] = VLLM_COMMAND) -> Iterator[Engine]:
    with tempfile.TemporaryDirectory() as scratch, DevicePool().hold() as slot:
        log = Path(scratch, "engine.log")
        engine = child_engine_factory(1200, command)(spec, slot, log, lambda *_: None)
        try:
            yield engine
        finally:
            engine.close()


if __name__ == "__main__":
    sys.exit(main())
