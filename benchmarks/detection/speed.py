"""Speed: tokens per second on outputs of a usual length, seconds per token up to a million tokens.

Times are those of the processor, so that other programs on the core disturb little.
"""

from __future__ import annotations

import cProfile
import pstats
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from detection.corpus import Document, read_documents
from detection.inputs import Maker, joined, makers
from detection.markdown import markdown_table
from detection.peers import repeats_somewhere
from pytest_kvcache.errors import UsageError
from pytest_kvcache.files import write_atomically
from pytest_kvcache.measures import degeneration
from pytest_kvcache.measures.degeneration import find_degeneration
from pytest_kvcache.records import Output

OUTPUTS = 10_000
TOKENS = 512
DAMAGED_IN = 10
"""One output in so many is made of damaged documents."""
SIZES = (1_000, 10_000, 100_000, 1_000_000)
PATIENCE = 60.0
"""Seconds after which a larger size of the same input is not tried."""
SAMPLE = 2_000
"""Outputs that are looked at once more under a profiler."""


class Throughput(msgspec.Struct, frozen=True):
    name: str
    tokens_per_second: float
    milliseconds_per_output: float


class Curve(msgspec.Struct, frozen=True):
    """Seconds for each size of one input; shorter than the sizes if it took too long."""

    name: str
    seconds: tuple[float, ...]


class Speed(msgspec.Struct, frozen=True):
    throughput: tuple[Throughput, ...]
    shares: tuple[tuple[str, float], ...]
    """Modules that hold detectors, and their share of the time under a profiler."""
    curves: tuple[Curve, ...]


def measure(corpus: Path) -> Speed:
    """Time our detectors and two rules on documents of the tuning half, and on inputs made for it."""
    healthy = list(read_documents(corpus, "tuning", "healthy"))
    damaged = list(read_documents(corpus, "tuning", "damaged"))
    if not (healthy and damaged):
        raise UsageError(f"no documents in {corpus}: run `python -m detection build` first")
    outputs = mixed_outputs(healthy, damaged)
    throughput = (
        _throughput("ours, all detectors", outputs, find_degeneration),
        _throughput(
            "ours, healthy outputs only", [o for o in outputs if o.prompt_id == "h"], find_degeneration
        ),
        _throughput(
            "ours, damaged outputs only", [o for o in outputs if o.prompt_id == "d"], find_degeneration
        ),
        _throughput("zlib's compression", outputs, lambda o: zlib.compress(o.text.encode(errors="replace"))),
        _throughput(
            "vLLM's rule, 1–20 × 4, as rewritten here",
            outputs,
            lambda o: repeats_somewhere(o.token_ids, 1, 20, 4),
        ),
    )
    return Speed(throughput, shares_of_time(outputs[:SAMPLE]), tuple(_curves(makers(healthy))))


def mixed_outputs(
    healthy: Sequence[Document], damaged: Sequence[Document], count: int = OUTPUTS
) -> list[Output]:
    """Return outputs of 512 tokens, cut from documents laid end to end; every tenth is damaged."""
    outputs = []
    for number in range(count):
        is_damaged = number % DAMAGED_IN == DAMAGED_IN - 1
        documents, label = (damaged, "d") if is_damaged else (healthy, "h")
        # A stride that visits all kinds, which lie one after the other.
        output = joined(documents, TOKENS, start=number * 7919)
        outputs.append(Output(label, (), output.token_ids, output.text, "length"))
    return outputs


def shares_of_time(outputs: Iterable[Output]) -> tuple[tuple[str, float], ...]:
    """Return the modules that `find_degeneration` calls with their shares of its time, largest first.

    A profiler makes calls dearer, so that detectors of many small calls look slower than they are.
    """
    profile = cProfile.Profile()
    outputs = list(outputs)
    profile.enable()
    for output in outputs:
        find_degeneration(output)
    profile.disable()
    statistics: pstats.Stats = pstats.Stats(profile)
    composer = str(Path(degeneration.__file__))
    seconds: dict[str, float] = {}
    total = 0.0
    for (file, _, name), (_, _, _, cumulative, callers) in statistics.stats.items():  # type: ignore[attr-defined]
        if file == composer and name == find_degeneration.__name__:
            total = cumulative
        if file != composer and file.endswith(".py"):
            spent = sum(times[3] for caller, times in callers.items() if caller[0] == composer)
            seconds[Path(file).stem] = seconds.get(Path(file).stem, 0.0) + spent
    shares = ((name, spent / total) for name, spent in seconds.items() if spent >= 0.005 * total)
    return tuple(sorted(shares, key=lambda pair: -pair[1]))


def write_speed(corpus: Path, speed: Speed) -> None:
    path = _speed_file(corpus)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, msgspec.json.encode(speed))


def read_speed(corpus: Path) -> Speed:
    """Return the last measurement. Raises UsageError if there was none."""
    speed = recorded_speed(corpus)
    if speed is None:
        path = _speed_file(corpus)
        raise UsageError(f"{path} is missing: run `python -m detection speed --record` first")
    return speed


def recorded_speed(corpus: Path) -> Speed | None:
    """Return the last measurement, if there was one."""
    path = _speed_file(corpus)
    return msgspec.json.decode(path.read_bytes(), type=Speed) if path.exists() else None


def _speed_file(corpus: Path) -> Path:
    return corpus / "results" / "speed.json"


def tables(speed: Speed) -> str:
    """Return the measurement as Markdown."""
    setting = (
        f"Processor time on one core. {OUTPUTS:,} outputs of {TOKENS} tokens each, ids and text, cut from "
        f"documents of the tuning half laid end to end; one in {DAMAGED_IN} is made of damaged documents."
    )
    scaling = (
        "Microseconds per token, and in brackets how many times that of 1,000 tokens. A text has 4 "
        f"characters for a token. A dash: the size before took more than {PATIENCE:.0f} s."
    )
    sizes = (f"{size:,}" for size in SIZES)
    throughput = (
        (each.name, f"{each.tokens_per_second:,.0f}", f"{each.milliseconds_per_output:.3f}")
        for each in speed.throughput
    )
    shares = ((f"`{name}`", f"{part:.0%}") for name, part in speed.shares)
    curves = ((curve.name, *_per_token(curve)) for curve in speed.curves)
    sections = (
        "# Detection, speed",
        "<!-- Written by `python -m detection speed --record`; do not edit. -->",
        setting,
        markdown_table(("", "tokens per second", "ms per output"), throughput),
        "Where the time goes, by module, under a profiler:",
        markdown_table(("module", "share"), shares),
        "## Scaling",
        scaling,
        markdown_table(("input, tokens", *sizes), curves),
    )
    return "\n\n".join(sections) + "\n"


def _per_token(curve: Curve) -> list[str]:
    costs = [spent / size for spent, size in zip(curve.seconds, SIZES, strict=False)]
    growth = (cost / costs[0] for cost in costs)
    cells = [
        f"{1e6 * cost:.2f} ({times:.{0 if times >= 10 else 2}f})"
        for cost, times in zip(costs, growth, strict=True)
    ]
    return cells + ["–"] * (len(SIZES) - len(cells))


def _throughput(name: str, outputs: Sequence[Output], look: Callable[[Output], object]) -> Throughput:
    began = time.process_time()
    for output in outputs:
        look(output)
    spent = time.process_time() - began
    tokens = sum(len(output.token_ids) for output in outputs)
    return Throughput(name, tokens / spent, 1e3 * spent / len(outputs))


def _curves(inputs: dict[str, Maker]) -> Iterable[Curve]:
    for name, make in inputs.items():
        seconds: list[float] = []
        for size in SIZES:
            if seconds and seconds[-1] > PATIENCE:
                break
            seconds.append(_seconds(make, size))
        yield Curve(name, tuple(seconds))


def _seconds(make: Maker, size: int) -> float:
    """Return the least of several timings, more of them the shorter they are."""
    sample = make(size)
    timings: list[float] = []
    while len(timings) < 5 and sum(timings) < 1.0:
        began = time.process_time()
        find_degeneration(sample)
        timings.append(time.process_time() - began)
    return min(timings)
