"""The baseline engine: what one healthy model thinks of every token of a text.

All reference models compute nearly the same function in bfloat16 and share one vocabulary, so that one
of them, ``ref:gqa`` under ``auto``, can judge what any of them wrote. Scores are appended batch by
batch to a file, and what is there already is not scored again: a killed recording goes on where it was.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from detection.scored import Scored, condensed, read_scores, whole_lines
from pytest_kvcache.engines import Engine
from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.files import write_atomically
from pytest_kvcache.records import EngineSpec, ScoreRequest

BASELINE = EngineSpec("ref:gqa", "auto")
TOP_K = 20
BATCH = 32
SECONDS_PER_STEP = 3600.0


def score_texts(requests: Sequence[ScoreRequest], file: Path) -> dict[str, Scored]:
    """Score all texts, keyed by their ``prompt_id``, and keep the scores in ``file``.

    Starts the engine only if a text is not in the file yet.
    """
    known = read_scores(file)
    missing = [request for request in requests if request.prompt_id not in known]
    if missing:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, whole_lines(file))
        with started_engine(file.with_suffix(".log")) as engine:
            for scored in _in_batches(engine, missing):
                with file.open("ab") as sink:
                    sink.write(msgspec.json.Encoder().encode_lines(scored))
        known = read_scores(file)
    return {request.prompt_id: known[request.prompt_id] for request in requests}


@contextmanager
def started_engine(log: Path) -> Iterator[Engine]:
    """Run the baseline engine for the time of the block, on the cores this process may use."""
    with DevicePool().hold() as slot:
        engine = child_engine_factory(SECONDS_PER_STEP)(BASELINE, slot, log, lambda *_: None)
        try:
            yield engine
        finally:
            engine.close()


def _in_batches(engine: Engine, requests: Sequence[ScoreRequest]) -> Iterator[list[Scored]]:
    began, tokens = time.monotonic(), 0
    for start in range(0, len(requests), BATCH):
        batch = requests[start : start + BATCH]
        yield [condensed(score) for score in engine.score(batch, top_k=TOP_K)]
        tokens += sum(len(r.prompt_token_ids) + len(r.token_ids) for r in batch)
        speed = tokens / (time.monotonic() - began)
        print(
            f"{time.strftime('%H:%M:%S')} {start + len(batch)}/{len(requests)} texts, {speed:.0f} tokens/s",
            file=sys.stderr,
            flush=True,
        )
