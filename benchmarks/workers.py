"""What a second worker and the outputs of an earlier run save: wall time of one gate, three ways.

    python benchmarks/workers.py [--rounds 1] [--model gqa]

The gate is the smoke tier's verdict and the check of its baseline: two engines, ``auto`` and ``fp8``. Each
round runs it

- with ``-n 0``: one engine after the other, each on all cores that this process may use;
- with ``-n 2``: both at once, each on half of them;
- with ``-n 0`` again, unchanged, beside a cache that the first one filled: no engine starts.

pytest's own start, which comes off the last, is that of one test without the plugin. An engine on all cores
is faster than one on half, so two workers cannot halve the time: by how much it is faster is printed as the
bound. Run nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from overhead import HERE, seconds_of

from pytest_kvcache import refmodels

DTYPES = ("auto", "fp8")
SUITES = ("verdict", "baseline")
"""Tests of both targets, so that two workers have some each."""
PHASES = ("seconds_to_start", "seconds_to_generate", "seconds_to_score")


def main() -> int:
    parser = argparse.ArgumentParser(description="Time one gate with one worker, with two, and unchanged.")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--model", default="gqa", help="a healthy reference model (default: gqa)")
    options = parser.parse_args()
    refmodels.ensure(options.model)
    os.environ.pop("CI", None)  # where it is set, nothing is taken from earlier runs
    cores = len(os.sched_getaffinity(0))
    print(f"model {options.model}, {cores} cores, engines {' and '.join(DTYPES)}, smoke verdict")
    for number in range(1, options.rounds + 1):
        with tempfile.TemporaryDirectory() as scratch:
            print(f"round {number}: {measured(options.model, Path(scratch))}", flush=True)
    return 0


def measured(model: str, scratch: Path) -> str:
    """Return one round in words."""
    one = seconds_of([gate(model, scratch, "one", "-n", "0")])
    two = seconds_of([gate(model, scratch, "two", "-n", "2", "--kv-no-cache")])
    again = seconds_of([gate(model, scratch, "again", "-n", "0")])
    if engines_of(scratch / "again"):
        sys.exit("the unchanged second run started an engine: its cache was not used")
    start = seconds_of([bare_pytest(scratch)])
    alone, together = (sum(engines_of(scratch / name)) for name in ("one", "two"))
    return (
        f"-n 0 {one:.1f} s, -n 2 {two:.1f} s, ratio {one / two:.2f} (engines: {alone:.1f} s in turn, "
        f"{together:.1f} s at once on half of the cores each, so at most {2 * alone / together:.2f}); "
        f"unchanged {again:.2f} s, of which pytest's own start {start:.2f} s, beyond it {again - start:.2f} s"
    )


def gate(model: str, scratch: Path, name: str, *options: str) -> list[str]:
    return [
        *(sys.executable, "-m", "pytest", "-q"),
        *(str(HERE.parent / "suites" / f"test_{suite}.py") for suite in SUITES),
        f"--kv-dtypes={','.join(reversed(DTYPES))}",
        f"--kv-models=ref:{model}",
        f"--kv-report={scratch / name}",
        f"--kv-cache-dir={scratch / 'cache'}",
        *("-p", "no:cacheprovider"),
        *options,
    ]


def bare_pytest(scratch: Path) -> list[str]:
    test = scratch / "test_nothing.py"
    test.write_text("def test_nothing():\n    pass\n")
    return [sys.executable, "-m", "pytest", "-q", str(test), "-p", "no:kvcache", "-p", "no:cacheprovider"]


def engines_of(report: Path) -> list[float]:
    """Return the seconds of each engine that ran."""
    engines = json.loads((report / "results.json").read_text(encoding="utf-8"))["engines"]
    return [sum(engine[phase] for phase in PHASES) for engine in engines]


if __name__ == "__main__":
    sys.exit(main())
