"""How often answers are found to have left their topic: of healthy models, and where they have indeed.

    PYTHONPATH=tests:benchmarks python benchmarks/topics.py RUN [--models gqa llama ...]

RUN is a run store with what healthy models wrote for the smoke tier's free prompts under ``auto``, e4m3 and
e5m2. An answer drifts where all that follows the first part of it is replaced by the text of the fault
``off-topic``, as long as it was. Prints shares of outputs and the excess, by the rule as it is and by shared
words alone, and how many candidates a test would fail on. Starts no engine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from detection.markdown import markdown_table
from faults.sampling import VILLAGE

from pytest_kvcache.measures import drift
from pytest_kvcache.measures.noninferiority import Differences, judge
from pytest_kvcache.policy import Limits
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import EngineSpec, Output
from pytest_kvcache.store import RunStore

HEALTHY = ("gqa", "llama", "gqa-rotated", "mha-rotated", "gqa-gptq", "gqa-fp8", "gqa-float16")
"""`mha` writes what `gqa` does."""
SETS = ("smoke", "smoke-penalised")
HEADINGS = (
    "outputs",
    "baseline",
    "candidate",
    "excess",
    "tests that fail",
    "by shared words: excess",
    "fail",
)
DRIFTED = (16, 40, 80)
"""Tokens after which answers drift."""


class Case(NamedTuple):
    prompt: str
    ours: str
    theirs: str


Rule = Callable[[str, str, str], bool]


def main() -> int:
    parser = argparse.ArgumentParser(description="Count answers that are found to have left their topic.")
    parser.add_argument("run", type=Path, help="a run store")
    parser.add_argument("--models", nargs="+", default=HEALTHY, help="healthy reference models in it")
    options = parser.parse_args()
    store = RunStore(options.run)
    kinds: list[tuple[str, str, int | None]] = [(dtype, dtype, None) for dtype in ("fp8_e4m3", "fp8_e5m2")]
    kinds += [(f"fp8_e4m3, drifted after {tokens} tokens", "fp8_e4m3", tokens) for tokens in DRIFTED]
    rows = [
        _row(told, [_cases(store, model, dtype, tokens) for model in options.models])
        for told, dtype, tokens in kinds
    ]
    sys.stdout.write(f"{markdown_table(HEADINGS, rows)}\n")
    return 0


def _cases(store: RunStore, model: str, dtype: str, drift_after: int | None) -> list[Case]:
    """Return what a model wrote under ``auto`` and under a kv dtype; nothing where it is not recorded."""
    cases = []
    for prompt_set in map(load_prompt_set, SETS):
        specs = (EngineSpec(f"ref:{model}", each) for each in (dtype, "auto"))
        ours, theirs = (store.outputs(spec, prompt_set) for spec in specs)
        if ours is None or theirs is None:
            return []
        for prompt, our, their in zip(prompt_set.prompts, ours, theirs, strict=True):
            text = our.text if drift_after is None else _drifted(our, drift_after)
            cases.append(Case(prompt.content, text, their.text))
    return cases


def _drifted(output: Output, tokens: int) -> str:
    """Return an answer that goes on about something else, as long as it was."""
    kept = len(output.text) * tokens // max(tokens, len(output.token_ids))
    return output.text[:kept] + (VILLAGE * 3)[: len(output.text) - kept]


def _row(told: str, models: Sequence[Sequence[Case]]) -> tuple[str, ...]:
    recorded = [cases for cases in models if cases]
    found = [list(_found(cases, _left)) for cases in recorded]
    by_words = [list(_found(cases, _shares_no_word)) for cases in recorded]
    pooled = [pair for pairs in found for pair in pairs]
    ours, theirs = (sum(side) / len(pooled) for side in zip(*pooled, strict=True))
    return (
        f"{told}: {len(pooled)}, of {len(recorded)} models",
        *(f"{theirs:.2f}", f"{ours:.2f}", f"{ours - theirs:+.2f}", _failing(found)),
        *(f"{_excess([pair for pairs in by_words for pair in pairs]):+.2f}", _failing(by_words)),
    )


def _found(cases: Sequence[Case], left: Rule) -> Iterator[tuple[bool, bool]]:
    for prompt, ours, theirs in cases:
        yield left(ours, prompt, theirs), left(theirs, prompt, ours)


def _left(text: str, prompt: str, beside: str) -> bool:
    return drift.has_left_topic(text, prompt=prompt, beside=beside)


def _shares_no_word(text: str, prompt: str, _beside: str) -> bool:
    """The rule without the one on latter halves, which find all their words in the answer itself."""
    return drift.has_left_topic(text, prompt=prompt, beside=text)


def _excess(pairs: Sequence[tuple[bool, bool]]) -> float:
    return sum(ours - theirs for ours, theirs in pairs) / len(pairs)


def _failing(models: Sequence[Sequence[tuple[bool, bool]]]) -> str:
    margin = Limits().topic_drift_excess
    name = "topic_drift_excess"
    judged = [judge({name: Differences.of(pairs)}, {name: margin})[name] for pairs in models]
    low = [each.interval.low for each in judged]
    beyond = sum(each.beyond for each in judged)
    return f"{beyond} of {len(judged)} (lower ends {min(low):+.2f} to {max(low):+.2f})"


if __name__ == "__main__":
    sys.exit(main())
