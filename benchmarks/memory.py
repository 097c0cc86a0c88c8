"""What memory three engines in a row take, and what is left when each of them has ended.

    python benchmarks/memory.py [--model gqa] [--dtypes auto,fp8_e4m3,fp8_e5m2]

After every step it prints this process's own memory, what the machine has left for it, the engine's memory
(its peak, once it has ended), and how many processes that were started here still live. What other programs
hold counts as left, so that their coming and going does not show.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from pathlib import Path

from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import EngineSpec, Sampling

TIMEOUT = 600.0
MARK = "KVCACHE_BENCHMARK"
GENERATED = Sampling(max_tokens=64, ignore_eos=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Watch memory over engines in a row.")
    parser.add_argument("--model", default="gqa", help="a reference model (default: gqa)")
    parser.add_argument("--dtypes", default="auto,fp8_e4m3,fp8_e5m2", help="one engine for each")
    arguments = parser.parse_args()
    os.environ[MARK] = str(os.getpid())
    prompts = load_prompt_set("smoke").prompts
    start = child_engine_factory(TIMEOUT)
    print("| step | own MiB | left for it, MiB | engine MiB | processes |")
    print("| --- | ---: | ---: | ---: | ---: |")
    show("before")
    with DevicePool().hold() as slot, tempfile.TemporaryDirectory() as scratch:
        for dtype in arguments.dtypes.split(","):
            spec = EngineSpec(f"ref:{arguments.model}", dtype)
            engine = start(spec, slot, Path(scratch, f"{dtype}.log"), lambda *_: None)
            show(f"{dtype} loaded", sum(map(resident, started_here())))
            engine.generate(prompts, GENERATED)
            show(f"{dtype} generated", sum(map(resident, started_here())))
            show(f"{dtype} ended (peak)", engine.close())


def show(step: str, engine: int = 0) -> None:
    figures = (mebibytes(resident(os.getpid())), mebibytes(left()), mebibytes(engine))
    print(f"| {step} | {' | '.join(figures)} | {len(started_here())} |", flush=True)


def left() -> int:
    others = set(processes()) - {os.getpid(), *started_here()}
    held = sum(field(f"/proc/{pid}/status", "RssAnon") for pid in others)
    return field("/proc/meminfo", "MemAvailable") + held


def resident(pid: int) -> int:
    return field(f"/proc/{pid}/status", "VmRSS")


def started_here() -> list[int]:
    """Return the living processes that inherited this one's mark, wherever they are in the tree."""
    wanted = f"{MARK}={os.getpid()}".encode()
    return [pid for pid in processes() if wanted in read(f"/proc/{pid}/environ").split(b"\0")]


def processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def field(table: str, name: str) -> int:
    """Return one line of a table of the kernel's, in bytes; 0 if it is not there."""
    found = re.search(rb"^%s:\s+(\d+) kB" % name.encode(), read(table), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def mebibytes(count: int) -> str:
    return f"{count / (1 << 20):,.0f}"


if __name__ == "__main__":
    main()
