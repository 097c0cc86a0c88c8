"""Reruns: what the gate says of healthy engines when it really asks them something else.

    python benchmarks/reruns.py --out DIR [--models gqa mha-rotated] [--dtype fp8_e4m3] > docs/reruns.md

An identical rerun on a processor gives identical outputs and proves nothing, and resampling recorded outputs
(``benchmarks/decisions.py``) never changes a batch. Here each of ten reruns asks for a subset of the shipped
sets ``full``, ``full-penalised`` and ``full-tasks``, in an order of its own, drawn with a stated seed. One
engine per model and kv dtype answers all of them, so that what shares a batch, and with what, differs each
time. Every rerun gets a verdict of its own, under the default limits. What the engines gave is kept in
``DIR/run``: a second start decides anew without them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from itertools import chain
from pathlib import Path

import numpy as np
from evidence.recorded import target
from evidence.tables import in_short, position, table_head, table_row

from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.measures.paired import share_interval
from pytest_kvcache.plan import Request, Target, make_plan
from pytest_kvcache.policy import Policy
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import PromptSet, Verdict, VerdictKind
from pytest_kvcache.report.table import figure
from pytest_kvcache.session import Session
from pytest_kvcache.store import RunStore

SEEDS = range(1, 11)
DRAWN = {"full": (24, 128), "full-penalised": (12, 128), "full-tasks": (24, 32)}
"""Of each shipped set: how many prompts a rerun asks for, and how many tokens of each at most."""
SHOWN = {
    "delta_nll": "delta NLL",
    "kld": "KLD",
    "same_top_loss": "same-top loss",
    "degenerate_excess": "degenerate excess",
    "suspicious_excess": "suspicious excess",
    "recall_loss": "recall loss",
}
FLOORS = ("delta_nll", "kld", "same_top_loss")
SECONDS_PER_STEP = 3600.0

Reruns = Mapping[int, Sequence[PromptSet]]
"""The prompt sets of each rerun, by its seed."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Ask healthy engines ten times something else.")
    parser.add_argument(
        "--models",
        nargs="+",
        default=["gqa", "mha-rotated"],
        metavar="NAME",
        help="healthy reference models (default: gqa mha-rotated)",
    )
    parser.add_argument("--dtype", default="fp8_e4m3", help="the candidate (default: fp8_e4m3)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()
    targets = [target(model, options.dtype) for model in options.models]
    reruns = {seed: drawn_sets(seed) for seed in SEEDS}
    session = new_session(options.out, targets, reruns)
    try:
        for line in report(session, targets, reruns):
            print(line, flush=True)
    finally:
        session.close()
    return 0


def drawn_sets(seed: int) -> tuple[PromptSet, ...]:
    """Draw prompts of each shipped set, without replacement and in the order drawn."""
    generator = np.random.default_rng(seed)
    drawn = []
    for name, (prompts, tokens) in DRAWN.items():
        shipped = load_prompt_set(name)
        chosen = generator.permutation(len(shipped.prompts))[:prompts]
        drawn.append(
            PromptSet(
                f"{name}-{seed}",
                tuple(shipped.prompts[i] for i in chosen),
                replace(shipped.sampling, max_tokens=tokens),
            )
        )
    return tuple(drawn)


def new_session(out: Path, targets: Sequence[Target], reruns: Reruns) -> Session:
    sets = tuple(chain.from_iterable(reruns.values()))
    return Session(
        make_plan([Request(each, sets, with_scores=True) for each in targets]),
        RunStore(out / "run"),
        child_engine_factory(SECONDS_PER_STEP),
        DevicePool(),
    )


def report(session: Session, targets: Sequence[Target], reruns: Reruns) -> Iterator[str]:
    """Yield the page: a table of all verdicts as they come, then how many did not pass."""
    plain, penalised, tasks = DRAWN.values()
    yield INTRODUCTION.format(plain=plain, penalised=penalised, tasks=tasks)
    yield from table_head("candidate", "seed", *SHOWN.values(), "outputs part at", "noise floors", "verdict")
    found: list[Verdict] = []
    for each in targets:
        for seed, sets in reruns.items():
            found.append(session.verdict(each, sets, Policy(), date.today()))
            yield table_row(each.id, seed, *_cells(found[-1]))
    yield ""
    for kind in (VerdictKind.FAIL, VerdictKind.INCONCLUSIVE):
        share = share_interval(sum(verdict.verdict is kind for verdict in found), len(found))
        interval = f"95 % interval {share.low:.0%} to {share.high:.0%}"
        yield f"Verdicts that are `{kind}`: {share.value:.0%} of {share.n} ({interval})."


def _cells(verdict: Verdict) -> Iterator[str]:
    yield from (figure(verdict.metrics.get(name)) for name in SHOWN)
    yield position(verdict.metrics.get("first_divergence"))
    floors = [verdict.metrics[name].floor for name in FLOORS if name in verdict.metrics]
    yield ", ".join(f"{floor:.4f}" for floor in floors if floor is not None)
    yield in_short(verdict)


INTRODUCTION = """\
# The gate, run again on other prompts

Written by `python benchmarks/reruns.py` from engines that ran (vLLM 0.32.0 on CPU, one core). Each row is a
verdict of its own under the default limits, on {plain[0]} prompts of the shipped set `full`, {penalised[0]}
of `full-penalised` (at most {plain[1]} tokens each) and {tasks[0]} of `full-tasks`. None of them is in the
smoke sets, on which the limits were set. They are drawn without replacement and put in another order by the
seed (numpy's `default_rng`). One engine per model and kv dtype answered all sets, so what shares a batch is
another each time.

**What this cannot tell.** Any two reruns of a model share about a quarter of their prompts, over a third of
the penalised ones and half of the tasks, and the two models are of one family, so the intervals below take
verdicts for more independent than they are. Figures with 95 % intervals; outputs part at the median position
in tokens; the noise floors are those of delta NLL, KLD and same-top loss, which must not be above .0333,
.0167 and .0500.
"""


if __name__ == "__main__":
    sys.exit(main())
