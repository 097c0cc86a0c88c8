"""Reruns: what the gate says of healthy engines when it really asks them something else.

    python benchmarks/reruns.py --out DIR [--models gqa] [--dtype fp8_e4m3] > docs/reruns.md

An identical rerun on a processor gives identical outputs and proves nothing, and resampling recorded outputs
(``benchmarks/decisions.py``) never changes a batch. Here each of ten prompt sets is a subset of the shipped
set ``full`` in an order of its own, drawn with a stated seed. One engine per kv dtype answers all of them, so
that what shares a batch, and with what, differs each time. Every set gets a verdict of its own, under the
default limits. What the engines gave is kept in ``DIR/run``: a second start decides anew without them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np

from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.measures.paired import share_interval
from pytest_kvcache.plan import Request, Target, make_plan
from pytest_kvcache.policy import Policy
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import EngineSpec, PromptSet, Verdict, VerdictKind
from pytest_kvcache.report.table import figure
from pytest_kvcache.session import Session
from pytest_kvcache.store import RunStore

SEEDS = range(1, 11)
PROMPTS = 24
TOKENS = 128
SHOWN = ("delta_nll", "kld", "same_top_loss", "suspicious_excess", "first_divergence")
HEADER = (
    "candidate",
    "seed",
    "delta NLL",
    "KLD",
    "same-top loss",
    "suspicious excess",
    "outputs part at",
    "noise floors",
    "verdict",
)
FLOORS = ("delta_nll", "kld", "same_top_loss")
SECONDS_PER_STEP = 3600.0


def main() -> int:
    parser = argparse.ArgumentParser(description="Ask healthy engines ten different prompt sets.")
    parser.add_argument("--models", nargs="+", default=["gqa"], help="healthy reference models")
    parser.add_argument("--dtype", default="fp8_e4m3", help="the candidate (default: fp8_e4m3)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()
    targets = [target(model, options.dtype) for model in options.models]
    sets = [drawn_set(seed) for seed in SEEDS]
    session = new_session(options.out, targets, sets)
    try:
        for line in report(session, targets, sets):
            print(line, flush=True)
    finally:
        session.release()
    return 0


def target(model: str, dtype: str) -> Target:
    return Target(
        id=f"{model} {dtype}",
        spec=EngineSpec(f"ref:{model}", dtype),
        kv_dtype=dtype,
        variant=None,
        baseline=EngineSpec(f"ref:{model}", "auto"),
        baseline_id=f"{model} auto",
    )


def drawn_set(seed: int) -> PromptSet:
    """Draw prompts of the shipped set, without replacement and in the order drawn."""
    full = load_prompt_set("full")
    chosen = np.random.default_rng(seed).permutation(len(full.prompts))[:PROMPTS]
    return PromptSet(
        f"full-{seed}",
        tuple(full.prompts[i] for i in chosen),
        replace(full.sampling, max_tokens=TOKENS),
    )


def new_session(out: Path, targets: Sequence[Target], sets: Sequence[PromptSet]) -> Session:
    return Session(
        make_plan([Request(each, tuple(sets), with_scores=True) for each in targets]),
        RunStore(out / "run"),
        child_engine_factory(SECONDS_PER_STEP),
        DevicePool(),
    )


def report(session: Session, targets: Sequence[Target], sets: Sequence[PromptSet]) -> Iterator[str]:
    """Yield the page: a table of all verdicts as they come, then how many did not pass."""
    yield INTRODUCTION
    header = (
        "candidate",
        "seed",
        "delta NLL",
        "KLD",
        "same-top loss",
        "suspicious excess",
        "outputs part at",
    )
    yield f"| {' | '.join((*header, 'noise floors', 'verdict'))} |"
    yield f"{'| --- ' * (len(header) + 2)}|"
    found: list[Verdict] = []
    for each in targets:
        for seed, prompt_set in zip(SEEDS, sets, strict=True):
            found.append(session.verdict(each, [prompt_set], Policy(), date.today()))
            yield f"| {each.id} | {seed} | {' | '.join(_cells(found[-1]))} |"
    yield ""
    for kind in (VerdictKind.FAIL, VerdictKind.INCONCLUSIVE):
        share = share_interval(sum(verdict.verdict is kind for verdict in found), len(found))
        interval = f"95 % interval {share.low:.0%} to {share.high:.0%}"
        yield f"Verdicts that are `{kind}`: {share.value:.0%} of {share.n} ({interval})."


def _cells(verdict: Verdict) -> Iterator[str]:
    yield from (figure(verdict.metrics.get(name)) for name in SHOWN)
    floors = [verdict.metrics[name].floor for name in FLOORS if name in verdict.metrics]
    yield ", ".join(f"{floor:.4f}" for floor in floors if floor is not None)
    codes = ", ".join(dict.fromkeys(reason.code for reason in verdict.reasons))
    yield f"{verdict.verdict}{': ' * bool(codes)}{codes}"


INTRODUCTION = f"""\
# The gate, run again on other prompts

Written by `python benchmarks/reruns.py` from engines that ran (vLLM 0.32.0 on CPU, one core). Each row is a
verdict of its own under the default limits: {PROMPTS} prompts of the shipped set `full`, none of which is in
`smoke`, on which the limits were set; drawn without replacement and put in another order by the seed (numpy's
`default_rng`), at most {TOKENS} tokens each, without penalised prompts. One engine per kv dtype answered all
sets, so what shares a batch is another each time. Any two sets share about a quarter of their prompts, so the
interval below takes verdicts for more independent than they are. Figures with 95 % intervals; outputs part at
the median position in tokens; the noise floors are those of delta NLL, KLD and same-top loss, which must not
be above .0333, .0167 and .0500.
"""


if __name__ == "__main__":
    sys.exit(main())
