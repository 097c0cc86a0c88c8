"""Recording: takes real outputs from recorded runs, and asks the baseline what it thinks of them.

    PYTHONPATH=benchmarks python -m detection.recording outputs RUN... [--corpus DIR]

The runs are those of ``benchmarks/reference_models.py``: reference models, healthy and fragile, that
wrote two prompt sets under ``auto`` and two fp8 dtypes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import NamedTuple

from detection.baseline import BASELINE, score_texts
from detection.real import RealOutput, write_outputs
from detection.scored import Scored
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import EngineSpec, Output, Prompt, PromptSet, ScoreRequest
from pytest_kvcache.refmodels import RECIPES
from pytest_kvcache.store import RunStore

DTYPES = ("auto", "fp8_e4m3", "fp8_e5m2")
COPIES = ("mha", "mha-kbias", "tiny-qwen3")
"""Left out: the first two equal ``gqa`` and ``gqa-kbias`` token by token, the third knows no language."""
PER_STRATUM = {"smoke": 16, "smoke-penalised": 8}
"""Outputs of one model under one dtype; of the baseline engine itself, all."""


class Written(NamedTuple):
    """One output of a recorded run, with what it answers."""

    spec: EngineSpec
    prompt_set: PromptSet
    prompt: Prompt
    output: Output

    @property
    def model(self) -> str:
        return self.spec.model.removeprefix("ref:")

    @property
    def id(self) -> str:
        return f"{self.model}/{self.spec.kv_cache_dtype}/{self.prompt_set.name}/{self.prompt.id}"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _arguments(arguments)
    chosen = choose(options.runs)
    requests = [
        ScoreRequest(written.id, written.output.prompt_token_ids, written.output.token_ids)
        for written in chosen
    ]
    scores = score_texts(requests, options.corpus / "scores" / "real-outputs.jsonl")
    write_outputs(real_output(written, scores[written.id]) for written in chosen)
    return 0


def real_output(written: Written, scored: Scored) -> RealOutput:
    output = written.output
    return RealOutput(
        id=written.id,
        model=written.model,
        kv_dtype=written.spec.kv_cache_dtype,
        prompt_set=written.prompt_set.name,
        prompt_id=written.prompt.id,
        prompt=written.prompt.content,
        prompt_token_ids=output.prompt_token_ids,
        token_ids=output.token_ids,
        text=output.text,
        finish_reason=output.finish_reason,
        logprobs=scored.logprobs,
        top_ids=scored.top_ids,
        top_logprobs=scored.top_logprobs,
        entropies=tuple(round(entropy, 2) for entropy in scored.entropies),
    )


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Score real outputs with the baseline engine.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directories")
    parser.add_argument("--corpus", type=Path, default=Path(".kvcache/detection"), metavar="DIR")
    return parser.parse_args(arguments)


def choose(runs: Sequence[Path]) -> list[Written]:
    """Return distinct outputs, balanced over models, dtypes and sets, and strata taking turns."""
    strata: list[list[Written]] = []
    seen: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
    for number, (spec, set_name) in enumerate(_strata()):
        distinct = []
        for written in _outputs(runs, spec, load_prompt_set(set_name)):
            key = (written.output.prompt_token_ids, written.output.token_ids)
            if key not in seen:
                seen.add(key)
                distinct.append(written)
        strata.append(distinct if spec == BASELINE else _some(distinct, PER_STRATUM[set_name], 5 * number))
    return [written for turn in zip_longest(*strata) for written in turn if written is not None]


def _strata() -> Iterator[tuple[EngineSpec, str]]:
    """Yield the baseline engine first, so that what equals its outputs counts as its own."""
    models = sorted((name for name in RECIPES if name not in COPIES), key=lambda name: name != "gqa")
    for dtype in DTYPES:
        for model in models:
            for set_name in PER_STRATUM:
                yield EngineSpec(f"ref:{model}", dtype), set_name


def _outputs(runs: Iterable[Path], spec: EngineSpec, prompt_set: PromptSet) -> list[Written]:
    found = (RunStore(run).outputs(spec, prompt_set) for run in runs)
    prompts = {prompt.id: prompt for prompt in prompt_set.prompts}
    return [
        Written(spec, prompt_set, prompts[output.prompt_id], output)
        for output in chain.from_iterable(outputs for outputs in found if outputs)
    ]


def _some(outputs: list[Written], count: int, offset: int) -> list[Written]:
    """Return so many from an offset on, going round, so that strata answer other prompts."""
    start = offset % len(outputs)
    return (outputs[start:] + outputs[:start])[:count]


if __name__ == "__main__":
    sys.exit(main())
