"""What a test suite costs by the pattern it is written in: wall time for the same tokens of the same engines.

    python benchmarks/patterns.py [--prompts 64] [--max-tokens 64] [--engines 6] [--model gqa]

Each pattern is a test file with one test per prompt and kv dtype (``auto`` and ``fp8``), run by pytest in
processes of its own, on the same cores, with the same arguments of the engine; imports and loading count on
every side:

- the plugin: tests declare a prompt set, and each looks at its own output;
- one generate per test: tests share a loaded engine per kv dtype and give it one prompt each;
- one engine per test: every test loads its own, as vLLM's tests of kv dtypes do. ``--engines`` tests are run
  per kv dtype, and the rest is extrapolated from what one more test took in the same process.

Run nothing else meanwhile.
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

QUIET = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
DTYPES = ("auto", "fp8")

BY_PLUGIN = """
import pytest

@pytest.mark.kv_sensitive(prompts="many.jsonl")
@pytest.mark.parametrize("prompt", [f"p{i}" for i in range(PROMPTS)])
def test_prompt(kv_outputs, prompt):
    output = next(output for output in kv_outputs if output.prompt_id == prompt)
    assert len(output.token_ids) == TOKENS
"""
SHARED = """
import json, os
import pytest
from vllm import LLM, SamplingParams

TEXTS = [json.loads(line)["text"] for line in list(open("many.jsonl", encoding="utf-8"))[1:]]
GREEDY = SamplingParams(temperature=0.0, max_tokens=TOKENS, ignore_eos=True)

def load():
    return LLM(
        model=os.environ["MODEL"],
        kv_cache_dtype=os.environ["KV_DTYPE"],
        enforce_eager=True,
        kv_cache_memory_bytes=2 << 30,
    )
"""
GENERATE_PER_TEST = """
@pytest.fixture(scope="session")
def llm():
    return load()

@pytest.mark.parametrize("text", TEXTS)
def test_prompt(llm, text):
    (result,) = llm.generate([text], GREEDY, use_tqdm=False)
    assert len(result.outputs[0].token_ids) == TOKENS
"""
ENGINE_PER_TEST = """
import time
from vllm.distributed import cleanup_dist_env_and_memory

BEGAN = time.monotonic()
ENDS = []

@pytest.mark.parametrize("text", TEXTS[:ENGINES])
def test_prompt(text):
    llm = load()
    (result,) = llm.generate([text], GREEDY, use_tqdm=False)
    assert len(result.outputs[0].token_ids) == TOKENS
    llm.llm_engine.engine_core.shutdown()
    del llm
    cleanup_dist_env_and_memory()
    ENDS.append(time.monotonic())
    with open("ends.json", "w") as file:
        json.dump(ENDS, file)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Time three patterns of a test suite for the same tokens.")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--engines", type=int, default=6, help="tests of the third pattern that are run")
    parser.add_argument("--model", default="gqa", help="a healthy reference model (default: gqa)")
    options = parser.parse_args()
    model = refmodels.ensure(options.model)
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    print(
        f"{options.prompts} prompts, {options.max_tokens} tokens each, {' and '.join(DTYPES)}, cores {cores}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch), options, str(model), cores)
        bench.write_prompts()
        plugin = bench.plugin()
        print(f"the plugin: {plugin:.1f} s", flush=True)
        shared = bench.generate_per_test()
        print(f"one generate per test: {shared:.1f} s, ratio {shared / plugin:.1f}", flush=True)
        measured, whole = bench.engine_per_test()
        print(
            f"one engine per test: {measured:.1f} s for {options.engines} of {options.prompts} tests per kv "
            f"dtype, {whole:.0f} s extrapolated to all, ratio {whole / plugin:.1f}"
        )
    return 0


class Bench:
    """The three patterns in one directory."""

    def __init__(self, root: Path, options: argparse.Namespace, model: str, cores: str) -> None:
        self._root = root
        self._options = options
        self._model = model
        self._environment = {"VLLM_CPU_OMP_THREADS_BIND": cores, "MODEL": model}

    def write_prompts(self) -> None:
        texts = [prompt.content for name in ("smoke", "full") for prompt in load_prompt_set(name).prompts]
        sampling = {"max_tokens": self._options.max_tokens, "ignore_eos": True}
        lines: list[dict[str, object]] = [{"name": "many", "sampling": sampling}]
        lines += [
            {"id": f"p{i}", "text": f"({i}) {texts[i % len(texts)]}".rstrip()}
            for i in range(self._options.prompts)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (self._root / "many.jsonl").write_text(text, encoding="utf-8")

    def plugin(self) -> float:
        options = (f"--kv-dtypes={','.join(DTYPES)}", f"--kv-models={self._model}", "--kv-no-cache")
        return self._seconds("test_plugin.py", BY_PLUGIN, options, {})

    def generate_per_test(self) -> float:
        return sum(
            self._seconds(
                "test_shared.py", SHARED + GENERATE_PER_TEST, ("-p", "no:kvcache"), {"KV_DTYPE": dtype}
            )
            for dtype in DTYPES
        )

    def engine_per_test(self) -> tuple[float, float]:
        """Return the seconds that were measured, and those of all tests by what one more test takes."""
        measured = whole = 0.0
        for dtype in DTYPES:
            seconds = self._seconds(
                "test_engines.py", SHARED + ENGINE_PER_TEST, ("-p", "no:kvcache"), {"KV_DTYPE": dtype}
            )
            ends = json.loads((self._root / "ends.json").read_text())
            one_more = (ends[-1] - ends[0]) / (len(ends) - 1)
            measured += seconds
            whole += seconds + one_more * (self._options.prompts - len(ends))
        return measured, whole

    def _seconds(self, name: str, code: str, options: tuple[str, ...], environment: dict[str, str]) -> float:
        numbers = {
            "PROMPTS": self._options.prompts,
            "TOKENS": self._options.max_tokens,
            "ENGINES": self._options.engines,
        }
        for word, number in numbers.items():
            code = code.replace(word, str(number))
        (self._root / name).write_text(code)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name, *options]
        began = time.monotonic()
        done = subprocess.run(
            command,
            cwd=self._root,
            env={**os.environ, **QUIET, **self._environment, **environment},
            capture_output=True,
            check=False,
        )
        seconds = time.monotonic() - began
        if done.returncode:
            sys.exit(f"{name} failed:\n{done.stdout.decode()[-3000:]}{done.stderr.decode()[-2000:]}")
        return seconds


if __name__ == "__main__":
    sys.exit(main())
