"""The gate beside its nearest peer, ``refract-llm``: the same model, prompts and kv dtypes; time and verdict.

    pip install --no-deps refract-llm==0.3.2.3
    python benchmarks/refract_peer.py [--models gqa gqa-kbias] [--prompts 30] [--max-tokens 128]

Both get the same prompts and tokens, ``fp8`` beside ``auto``, one engine after the other on the same cores.
The peer further scores a corpus by its own way; ours scores the baseline's texts. Each side loads vLLM as it
does by itself: the peer's first axis gives its engine one prompt at a time. It asks for 64 log-probabilities
where vLLM's default limit is 20, so it is told 20. A wrapper gives its engine what ours has too: 2 GiB of
cache and no compiling, which takes minutes on a processor. Run nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from pytest_kvcache import refmodels
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import Prompt

QUIET = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
PEER = """
import functools, sys
import vllm
vllm.LLM = functools.partial(vllm.LLM, enforce_eager=True, kv_cache_memory_bytes=2 << 30)
from refract.cli import main
sys.exit(main(sys.argv[1:]))
"""
GATE = """
import pytest

@pytest.mark.kv_sensitive(prompts="asked.jsonl")
def test_verdict(kv_verdict):
    assert kv_verdict.ok, kv_verdict.summary
"""
CORPUS_CHUNKS, CORPUS_CONTEXT = 4, 512


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Time the gate beside refract-llm, and compare what they say."
    )
    parser.add_argument("--models", nargs="+", default=["gqa", "gqa-kbias"])
    parser.add_argument("--prompts", type=int, default=30)
    parser.add_argument("--max-tokens", type=int, default=128)
    options = parser.parse_args()
    if find_spec("refract") is None:
        sys.exit("refract-llm is not installed: pip install --no-deps refract-llm==0.3.2.3")
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    print(f"{options.prompts} prompts, {options.max_tokens} tokens each, auto and fp8, cores {cores}")
    for name in options.models:
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch)
            _write_prompts(root, options.prompts, options.max_tokens)
            model = str(refmodels.ensure(name))
            peer, said = _peer(root, model, options.max_tokens, cores)
            print(f"{name}: refract-llm {peer:.1f} s, says: {said}", flush=True)
            gate, verdict = _gate(root, model)
            print(f"{name}: the gate {gate:.1f} s, says: {verdict}", flush=True)
            print(f"{name}: ratio {peer / gate:.2f}", flush=True)
    return 0


def _write_prompts(root: Path, number: int, max_tokens: int) -> None:
    """Write the same questions as a prompt set and as the peer reads them, and a corpus for the peer."""
    full = [p for p in load_prompt_set("full").prompts if len(p.messages) == 1]
    asked = full[:number]
    header = {"name": "asked", "sampling": {"max_tokens": max_tokens}}
    ours = [header, *({"id": p.id, "kind": p.kind, "messages": [_message(p)]} for p in asked)]
    theirs = [{"id": p.id, "category": p.kind, "prompt": p.content} for p in asked]
    for name, lines in (("asked.jsonl", ours), ("theirs.jsonl", theirs)):
        (root / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (root / "test_gate.py").write_text(GATE)
    (root / "peer.py").write_text(PEER)
    stories = [p.content for name in ("full-tasks", "full", "smoke") for p in load_prompt_set(name).prompts]
    (root / "corpus.txt").write_text("\n\n".join(stories), encoding="utf-8")


def _message(prompt: Prompt) -> dict[str, str | None]:
    return {"role": "user", "content": prompt.messages[0].content}


def _peer(root: Path, model: str, max_tokens: int, cores: str) -> tuple[float, str]:
    command = [
        *(sys.executable, "peer.py", "score", "--backend", "vllm", "--model", model),
        *("--reference", "ctk=bf16,ctv=bf16", "--candidate", "ctk=q8_0,ctv=q8_0"),
        *("--prompts", "theirs.jsonl", "--n-predict", str(max_tokens)),
        *("--corpus", "corpus.txt", "--chunks", str(CORPUS_CHUNKS), "--ctx", str(CORPUS_CONTEXT)),
        *("--no-auto-fetch", "--no-progress", "--json-out", "peer.json"),
    ]
    environment = {"VLLM_CPU_OMP_THREADS_BIND": cores, "REFRACT_VLLM_KLD_TOPK": "20"}
    seconds, done = _run(root, command, environment)
    if not (root / "peer.json").exists():
        sys.exit(f"refract-llm failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    told = [line.replace("#", "") for line in plain.splitlines() if "REFRACT score" in line]
    return seconds, " ".join(told[-1].split()) if told else "nothing"


def _gate(root: Path, model: str) -> tuple[float, str]:
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_gate.py"),
        *("--kv-dtypes=fp8,auto", f"--kv-models={model}", "--kv-no-cache", "--kv-report=report"),
    ]
    seconds, done = _run(root, command, {})
    results = root / "report" / "results.json"
    if not results.exists():
        sys.exit(f"the gate failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    (verdict,) = json.loads(results.read_text())["verdicts"]
    return seconds, f"{verdict['verdict']} ({', '.join(reason['code'] for reason in verdict['reasons'])})"


def _run(
    root: Path, command: list[str], environment: dict[str, str]
) -> tuple[float, subprocess.CompletedProcess[str]]:
    began = time.monotonic()
    done = subprocess.run(
        command,
        cwd=root,
        env={**os.environ, **QUIET, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return time.monotonic() - began, done


if __name__ == "__main__":
    sys.exit(main())
