"""What the gate costs beside a bare vLLM script that does the same work: wall time, paired.

    python benchmarks/overhead.py [--pairs 3] [--model gqa]

Both sides load the same two engines (``auto``, ``fp8``) one after the other in processes of their own,
on the same cores, generate the same tokens and score the same texts (`bare_vllm.py`). They run in turn,
gate, bare, gate, bare, ...; the figure is the ratio within each pair. Run nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pytest_kvcache import refmodels

HERE = Path(__file__).parent
QUIET = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}


def main() -> int:
    parser = argparse.ArgumentParser(description="Time the gate beside a bare vLLM script.")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--model", default="gqa", help="a healthy reference model (default: gqa)")
    arguments = parser.parse_args()
    model = refmodels.ensure(arguments.model)
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    print(f"model {arguments.model}, cores {cores}, engines auto and fp8, smoke tier")
    ratios = []
    for pair in range(1, arguments.pairs + 1):
        with tempfile.TemporaryDirectory() as scratch:
            gate = seconds_of(gate_commands(arguments.model, Path(scratch)))
            bare = seconds_of(bare_commands(model, Path(scratch)), {"VLLM_CPU_OMP_THREADS_BIND": cores})
        ratios.append(gate / bare)
        print(f"pair {pair}: gate {gate:.1f} s, bare {bare:.1f} s, ratio {ratios[-1]:.3f}", flush=True)
    print(f"ratio: median {statistics.median(ratios):.3f}, min {min(ratios):.3f}, max {max(ratios):.3f}")
    return 0


def gate_commands(model: str, scratch: Path) -> list[list[str]]:
    command = [sys.executable, "-m", "pytest", "-q", str(HERE.parent / "suites" / "test_verdict.py")]
    options = [
        "--kv-dtypes=fp8,auto",
        f"--kv-models=ref:{model}",
        f"--kv-report={scratch / 'report'}",
        "--kv-no-cache",
    ]
    return [[*command, *options, "-p", "no:cacheprovider"]]


def bare_commands(model: Path, scratch: Path) -> list[list[str]]:
    script = [sys.executable, str(HERE / "bare_vllm.py"), str(model)]
    return [[*script, dtype, str(scratch / "texts.json")] for dtype in ("auto", "fp8")]


def seconds_of(commands: list[list[str]], environment: dict[str, str] | None = None) -> float:
    began = time.monotonic()
    for command in commands:
        done = subprocess.run(
            command, env={**os.environ, **QUIET, **(environment or {})}, capture_output=True, check=False
        )
        if done.returncode:
            sys.exit(
                f"{' '.join(command)} failed:\n{done.stdout.decode()[-2000:]}{done.stderr.decode()[-2000:]}"
            )
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
