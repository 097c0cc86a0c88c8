"""What refreshing a large golden costs beside generating its texts alone: wall time, one engine each.

    python benchmarks/golden_refresh.py [--prompts 1000] [--max-tokens 24] [--model gqa]

Three processes of their own on the same cores, one after the other: a bare vLLM script that generates the
texts and nothing else; a refresh without log-probabilities; a refresh with them, which scores every text once
more. The prompts are openings of the shipped sets, numbered to be different. Run nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pytest_kvcache import refmodels
from pytest_kvcache.prompts import load_prompt_set

QUIET = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
BARE = """
import json, os, sys
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
from vllm import LLM, SamplingParams
model, prompts, tokens = sys.argv[1:]
llm = LLM(model=model, kv_cache_dtype="auto", enforce_eager=True, kv_cache_memory_bytes=2 << 30)
texts = [json.loads(line)["text"] for line in list(open(prompts, encoding="utf-8"))[1:]]
llm.generate(texts, SamplingParams(temperature=0.0, max_tokens=int(tokens)), use_tqdm=False)
sys.stdout.flush()
os._exit(0)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Time a refresh of many prompts beside generating them.")
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--max-tokens", type=int, default=24)
    parser.add_argument("--model", default="gqa", help="a healthy reference model (default: gqa)")
    options = parser.parse_args()
    model = refmodels.ensure(options.model)
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        header = {"name": "many", "sampling": {"max_tokens": options.max_tokens}}
        lines = [json.dumps(header) + "\n", *_lines(options.prompts)]
        (root / "many.jsonl").write_text("".join(lines), encoding="utf-8")
        (root / "bare.py").write_text(BARE)
        bare = [sys.executable, "bare.py", str(model), "many.jsonl", str(options.max_tokens)]
        refresh = [
            *(sys.executable, "-m", "pytest_kvcache", "golden", "refresh"),
            *(f"--kv-models=ref:{options.model}", "--prompts=many.jsonl"),
        ]
        generating = _seconds(bare, root, {"VLLM_CPU_OMP_THREADS_BIND": cores})
        print(f"{options.prompts} prompts, {options.max_tokens} tokens each, cores {cores}")
        print(f"generating alone: {generating:.1f} s", flush=True)
        for what, extra in (("without log-probabilities", ["--no-logprobs"]), ("with them", [])):
            seconds = _seconds([*refresh, *extra], root, {})
            print(
                f"refresh {what}: {seconds:.1f} s, ratio {seconds / generating:.2f}; {_sizes(root)}",
                flush=True,
            )
    return 0


def _lines(number: int) -> list[str]:
    texts = [prompt.content for name in ("smoke", "full") for prompt in load_prompt_set(name).prompts]
    return [
        json.dumps({"id": f"p{i}", "kind": f"kind-{i % 8}", "text": f"({i}) {texts[i % len(texts)][:200]}"})
        + "\n"
        for i in range(number)
    ]


def _seconds(command: list[str], directory: Path, environment: dict[str, str]) -> float:
    whole = {name: value for name, value in os.environ.items() if name != "CI"} | QUIET | environment
    began = time.monotonic()
    done = subprocess.run(command, cwd=directory, env=whole, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout.decode()[-2000:]}{done.stderr.decode()[-2000:]}")
    return time.monotonic() - began


def _sizes(root: Path) -> str:
    files = [path for path in (root / "golden").rglob("*") if path.is_file()]
    return ", ".join(f"{path.suffix[1:]} {path.stat().st_size / 1e6:.2f} MB" for path in files)


if __name__ == "__main__":
    sys.exit(main())
