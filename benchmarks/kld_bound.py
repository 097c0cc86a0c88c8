"""How much of the true KLD the bound from the top k sees, over a real model's whole vocabulary.

    python benchmarks/kld_bound.py ref:gqa --run .kvcache/runs/RUN

The model reads its own recorded ``auto`` texts in torch: once with keys and values as they are, once
rounded to float8 in the cache. KLD over all tokens is exact there; the bound comes from the same
distributions, cut to the k most probable tokens.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from pytest_kvcache.measures.divergence import compare_scores
from pytest_kvcache.models import locate_model
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import EngineSpec, Output, Score
from pytest_kvcache.store import RunStore

DTYPES = {"fp8_e4m3": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}
K = (1, 5, 10, 20, 50)


class RoundingCache(DynamicCache):  # type: ignore[misc]
    """A cache that keeps keys and values as float8 would."""

    def __init__(self, dtype: Any) -> None:
        super().__init__()
        self.dtype = dtype

    def update(self, keys: Any, values: Any, *rest: Any, **more: Any) -> Any:
        keys, values = (each.to(self.dtype).to(each.dtype) for each in (keys, values))
        return super().update(keys, values, *rest, **more)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a reference model, such as ref:gqa")
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="a run that holds its outputs")
    parser.add_argument("--texts", type=int, default=8, help="how many texts to read (default: 8)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(locate_model(arguments.model, print), dtype=torch.bfloat16)
    found = RunStore(arguments.run).outputs(EngineSpec(arguments.model, "auto"), load_prompt_set("smoke"))
    if found is None:
        parser.error(f"{arguments.run} holds no outputs of {arguments.model}")
    outputs = [output for output in found if output.token_ids][:: max(1, len(found) // arguments.texts)]
    print("| kv dtype | exact KLD | " + " | ".join(f"k = {k}" for k in K) + " | unseen at 20 |")
    print("| --- " * (len(K) + 3) + "|")
    for name, dtype in DTYPES.items():
        exact, bounds, unseen = compare(model, outputs, dtype)
        shares = " | ".join(f"{bounds[k] / exact:.0%}" for k in K)
        print(f"| {name} | {exact:.4f} | {shares} | {unseen:.3f} |")
    return 0


def compare(model: Any, outputs: list[Output], dtype: Any) -> tuple[float, dict[int, float], float]:
    """Return mean exact KLD, mean bound for each k, and the mean unseen probability at k = 20."""
    exact: list[float] = []
    unseen: list[float] = []
    bounds: dict[int, list[float]] = {k: [] for k in K}
    for output in outputs:
        base = logprobs(model, output, DynamicCache())
        ours = logprobs(model, output, RoundingCache(dtype))
        exact.append((np.exp(base) * (base - ours)).sum(axis=1).mean())
        for k in K:
            compared = compare_scores(score(output, ours, k), score(output, base, k))
            bounds[k].append(compared.kld)
            if k == 20:
                unseen.append(compared.unseen.mean())
    return float(np.mean(exact)), {k: float(np.mean(v)) for k, v in bounds.items()}, float(np.mean(unseen))


def logprobs(model: Any, output: Output, cache: Any) -> Any:
    """Return float64[tokens, vocabulary] of the output's positions."""
    ids = torch.tensor([output.prompt_token_ids + output.token_ids])
    with torch.inference_mode():
        logits = model(ids, past_key_values=cache, use_cache=True).logits[0]
    at = slice(len(output.prompt_token_ids) - 1, -1)
    return torch.log_softmax(logits[at].double(), dim=-1).numpy()


def score(output: Output, logprobs: Any, k: int) -> Score:
    given = np.array(output.token_ids)[:, None]
    top = np.argsort(-logprobs, axis=1, kind="stable")[:, :k]
    return Score(
        output.prompt_id,
        output.token_ids,
        np.take_along_axis(logprobs, given, 1).astype("<f4").tobytes(),
        top.astype("<i4").tobytes(),
        np.take_along_axis(logprobs, top, 1).astype("<f4").tobytes(),
        k,
    )


if __name__ == "__main__":
    sys.exit(main())
