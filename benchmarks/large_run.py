"""What follows the engines, on large runs: seconds and memory from the run store to the written reports.

    python benchmarks/large_run.py [--prompts 100,1000,5000] [--tokens 512] [--profile]

No engine runs. Outputs are replayed: real outputs of reference models (``detection/data``), those for
different prompts laid end to end and cut to the length asked for. The baseline's are healthy ones; so are
nine in ten of the candidate's, and the tenth is nonsense or a loop, so that the verdict is red and evidence
for it is chosen. The scores hold the recorded log-probabilities, and 19 less probable tokens at each position
that are made up.

For each size a process of its own reads a finished run store, decides and reports, as pytest does when all
engines have ended. Two outputs belong to a prompt: the baseline's and the candidate's. Times are those of
the processor, so that other programs disturb little; memory is the peak of the process.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from detection.real import RealOutput, read_outputs
from verdict_samples import PROVENANCE, QUANTIZED

from pytest_kvcache import deciding, report, session, verdicts
from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.plan import Target, make_plan
from pytest_kvcache.policy import Policy
from pytest_kvcache.records import (
    EngineSpec,
    Output,
    OutputSet,
    Prompt,
    PromptSet,
    Sampling,
    Score,
    ScoreSet,
)
from pytest_kvcache.store import RunStore

K = 20
KINDS = ("chat", "code", "list", "zh")
BROKEN_IN = 10
"""One output of the candidate in so many is broken."""
FLOOR_TEXTS, FLOOR_TOKENS = 8, 32
TODAY = date(2026, 1, 1)
PROFILED = 40
"""Functions that a profile shows."""
BASELINE = EngineSpec("ref:gqa", "auto")
CANDIDATE = EngineSpec("ref:gqa", "fp8_e4m3")
TARGET = Target("gqa-fp8", CANDIDATE, "fp8", None, BASELINE, "gqa-auto")


class Measured(msgspec.Struct):
    seconds: dict[str, float]
    """Of the processor, by stage; ``all`` is a little more than their sum."""
    peak: int
    """Bytes."""
    verdict: str


def main() -> None:
    parser = argparse.ArgumentParser(description="Time verdicts and reports of replayed outputs.")
    parser.add_argument("--prompts", default="100,1000,5000", help="sizes (default: 100,1000,5000)")
    parser.add_argument("--tokens", type=int, default=512, help="tokens of each output (default: 512)")
    parser.add_argument("--profile", action="store_true", help="print where the time of each size goes")
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.prompts.split(",")]
    if arguments.store:
        prompts = prompt_set(sizes[0], arguments.tokens)
        print(msgspec.json.encode(judge(arguments.store, prompts, profile=arguments.profile)).decode())
        return
    print_table([(size, measured(size, arguments.tokens, arguments.profile)) for size in sizes])


def measured(prompts: int, tokens: int, profile: bool) -> Measured:
    """Record a run and judge it in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        record(RunStore(Path(scratch, "run")), prompts, tokens)
        command = [sys.executable, __file__, f"--store={scratch}", *["--profile"] * profile]
        size = [f"--prompts={prompts}", f"--tokens={tokens}"]
        done = subprocess.run([*command, *size], check=True, stdout=subprocess.PIPE)
    return msgspec.json.decode(done.stdout, type=Measured)


def print_table(rows: Sequence[tuple[int, Measured]]) -> None:
    stages = list(rows[0][1].seconds)
    print(
        f"| prompts | outputs | {' | '.join(f'{stage}, s' for stage in stages)} | ms per output | peak MiB |"
    )
    print("|" + " ---: |" * (len(stages) + 4))
    for prompts, row in rows:
        seconds = " | ".join(f"{row.seconds[stage]:.2f}" for stage in stages)
        each = 1e3 * row.seconds["all"] / (2 * prompts)
        print(f"| {prompts:,} | {2 * prompts:,} | {seconds} | {each:.2f} | {row.peak / (1 << 20):,.0f} |")


# What is judged


class Material(NamedTuple):
    """Tokens with what was said of them, and their text."""

    ids: list[int]
    text: str
    logprobs: list[float]
    top_ids: list[int]
    top_logprobs: list[float]


def record(store: RunStore, count: int, tokens: int) -> None:
    """Keep what two engines would have given for so many prompts."""
    prompts = prompt_set(count, tokens)
    real = [output for output in read_outputs() if output.token_ids and not output.is_penalised]
    healthy = [output for output in real if output.label == "healthy"]
    broken = [output for output in real if output.label in ("loop", "nonsense")]
    dice = random.Random(0)
    theirs = [material(healthy, tokens, dice) for _ in range(count)]
    ours = [
        material(broken if number % BROKEN_IN == BROKEN_IN - 1 else healthy, tokens, dice)
        for number in range(count)
    ]
    for spec, provenance, texts in ((BASELINE, PROVENANCE, theirs), (CANDIDATE, QUANTIZED, ours)):
        outputs = tuple(
            Output(prompt.id, (1, 2, 3), tuple(text.ids), text.text, "length")
            for prompt, text in zip(prompts.prompts, texts, strict=True)
        )
        store.put_outputs(OutputSet(spec, prompts, provenance, outputs, 1.0))
    for spec, loss in ((BASELINE, 0.0), (CANDIDATE, 0.05)):
        scores = tuple(score_of(p.id, text, loss) for p, text in zip(prompts.prompts, theirs, strict=True))
        store.put_scores(ScoreSet(spec, prompts, BASELINE.key, scores, 1.0))
        if spec == BASELINE:
            alone = tuple(score.first(FLOOR_TOKENS) for score in scores[:FLOOR_TEXTS])
            store.put_floor(ScoreSet(spec, prompts, BASELINE.key, alone, 1.0))


def prompt_set(count: int, tokens: int) -> PromptSet:
    kinds = cycle(KINDS)
    prompts = tuple(
        Prompt(f"p{number:05}", next(kinds), text=f"Write about number {number}.") for number in range(count)
    )
    return PromptSet("replayed", prompts, Sampling(max_tokens=tokens))


def material(outputs: Sequence[RealOutput], tokens: int, dice: random.Random) -> Material:
    """Lay outputs end to end and cut them; the text is cut in proportion."""
    made = Material([], "", [], [], [])
    for one in sample_of_prompts(outputs, dice):
        made = Material(
            [*made.ids, *one.token_ids],
            f"{made.text}{one.text}\n\n",
            [*made.logprobs, *one.logprobs],
            [*made.top_ids, *one.top_ids],
            [*made.top_logprobs, *one.top_logprobs],
        )
        if len(made.ids) >= tokens:
            break
    text = made.text[: len(made.text) * tokens // len(made.ids)]
    return Material(
        made.ids[:tokens], text, made.logprobs[:tokens], made.top_ids[:tokens], made.top_logprobs[:tokens]
    )


def sample_of_prompts(outputs: Sequence[RealOutput], dice: random.Random) -> Iterator[RealOutput]:
    """Yield outputs in any order, the first one for each prompt; then begin again."""
    while True:
        seen: set[str] = set()
        for one in dice.sample(outputs, len(outputs)):
            if one.prompt_id not in seen:
                seen.add(one.prompt_id)
                yield one


def score_of(name: str, text: Material, loss: float) -> Score:
    """Return a score with K tokens at each position: the recorded one, then less and less probable others."""
    n = len(text.ids)
    noise = loss * np.random.default_rng(n).standard_normal((n, K))
    falling = np.array(text.top_logprobs)[:, None] - np.arange(K) / 2
    ids = np.column_stack([text.top_ids, np.arange(n)[:, None] + 100_000 + np.arange(K - 1)])
    return Score(
        prompt_id=name,
        token_ids=tuple(text.ids),
        logprobs=(np.array(text.logprobs) - abs(noise[:, 0])).astype("<f4").tobytes(),
        top_ids=ids.astype("<i4").tobytes(),
        top_logprobs=(falling - abs(noise)).astype("<f4").tobytes(),
        k=K,
    )


# The judge


def judge(directory: Path, prompts: PromptSet, *, profile: bool) -> Measured:
    """Give the verdict on a finished run and write its reports; tell what each stage took."""
    clock = {stage: 0.0 for stage, _, _ in STAGES}
    for stage, home, name in STAGES:
        setattr(home, name, timed(getattr(home, name), clock, stage))
    profiler = cProfile.Profile()
    if profile:
        profiler.enable()
    began = time.process_time()
    store = RunStore(directory / "run")
    judging = session.Session(make_plan([]), store, no_engine, DevicePool())
    verdict = judging.verdict(TARGET, [prompts], Policy(), TODAY)
    write_reports(store, directory / "report")
    clock["all"] = time.process_time() - began
    if profile:
        profiler.disable()
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(PROFILED)
    return Measured(clock, peak_bytes(), verdict.verdict)


def peak_bytes() -> int:
    """Return the most memory that this process has had; what `getrusage` tells counts its parent's, too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def write_reports(store: RunStore, directory: Path) -> None:
    judged = store.verdicts()
    results = report.Results(
        schema_version=report.SCHEMA_VERSION,
        run=report.RunInfo(
            True, report.Selection(None, None, 0), "2026-01-01T00:00:00Z", 1.0, ("pytest",), ()
        ),
        engines=store.reports(),
        verdicts=tuple(verdict for verdict, _ in judged),
        excerpts=tuple(excerpt for _, excerpts in judged for excerpt in excerpts),
    )
    report.write_reports(directory, results, {})
    list(report.verdict_lines(results, width=100))


def timed(function: Callable[..., Any], clock: dict[str, float], stage: str) -> Callable[..., Any]:
    """Return the function with the seconds of each call added to its stage."""

    def call(*args: Any, **kwargs: Any) -> Any:
        began = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            clock[stage] += time.process_time() - began

    return call


def no_engine(*_: object, **__: object) -> NoReturn:
    raise AssertionError("all that engines would give is recorded")


STAGES: tuple[tuple[str, Any, str], ...] = (
    ("reading", RunStore, "outputs"),
    ("reading", RunStore, "scores"),
    ("reading", RunStore, "floor"),
    ("detection", verdicts, "find_faults"),
    ("comparison", verdicts, "compare_all"),
    ("details", verdicts, "divergence_detail"),
    ("excerpts", deciding, "choose_excerpts"),
    ("reports", sys.modules[__name__], "write_reports"),
)
"""What is timed, and where its callers look it up."""


if __name__ == "__main__":
    main()
