"""The peer of `overhead.py`: the gate's work as one would write it by hand, with vLLM and nothing else.

    python benchmarks/bare_vllm.py MODEL_DIR KV_DTYPE TEXTS.json

Generates what the smoke tier's verdict rests on, its three prompt sets in one batch each, and scores the
baseline's texts, which the run under ``auto`` writes to TEXTS.json and the others read. No plugin, no store,
no detection, no probe of how scores are read, no noise floor.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"

from vllm import LLM, SamplingParams

PROMPTS = Path(__file__).parents[1] / "pytest_kvcache" / "prompts" / "smoke.jsonl"


def main(model: str, kv_dtype: str, texts: Path) -> None:
    llm = LLM(model=model, kv_cache_dtype=kv_dtype, enforce_eager=True, kv_cache_memory_bytes=2 << 30)
    tokenizer = llm.get_tokenizer()
    header, *lines = read(PROMPTS)
    tasks_header, *tasks = read(PROMPTS.with_name("smoke-tasks.jsonl"))
    penalised = json.loads(PROMPTS.with_name("smoke-penalised.jsonl").read_text(encoding="utf-8"))
    prompts = {line["id"]: {"prompt_token_ids": encode(tokenizer, line)} for line in lines}
    outputs = llm.generate(list(prompts.values()), sampling(header), use_tqdm=False)
    llm.reset_prefix_cache()
    llm.generate([prompts[name] for name in penalised["ids"]], sampling(penalised), use_tqdm=False)
    llm.reset_prefix_cache()
    asked = [{"prompt_token_ids": encode(tokenizer, line)} for line in tasks]
    llm.generate(asked, sampling(tasks_header), use_tqdm=False)
    if kv_dtype == "auto":
        texts.write_text(
            json.dumps([list(o.prompt_token_ids) + list(o.outputs[0].token_ids) for o in outputs])
        )
    llm.reset_prefix_cache()
    whole = [{"prompt_token_ids": ids} for ids in json.loads(texts.read_text())]
    llm.generate(whole, SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=20), use_tqdm=False)
    sys.stdout.flush()
    os._exit(0)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def encode(tokenizer: object, line: dict[str, object]) -> list[int]:
    if "text" in line:
        return tokenizer.encode(line["text"])  # type: ignore[attr-defined,no-any-return]
    return tokenizer.apply_chat_template(  # type: ignore[attr-defined,no-any-return]
        line["messages"], add_generation_prompt=True, tokenize=True, return_dict=False
    )


def sampling(header: dict[str, dict[str, float]]) -> SamplingParams:
    return SamplingParams(temperature=0.0, **header["sampling"])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
