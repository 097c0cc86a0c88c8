"""Evidence about the reference models: what each of them does under each kv dtype, in one command.

    python benchmarks/reference_models.py --out DIR
    python benchmarks/reference_models.py --out DIR --runs .kvcache/runs/*

Every model writes a prompt set, a penalised one and answers to tasks under ``auto`` and each candidate dtype;
every engine scores the model's own text from ``auto``. From that come ``DIR/reference-evidence.md``, a page
of tables and samples, and ``DIR/reference-models.json`` with every figure:

- per model and dtype: the verdict and its endpoints, NLL and top-1 agreement on the model's own baseline
  text, KLD along it, and outputs that loop, are empty, differ, or answer rightly;
- the 2x2 experiment: attention (multi-head or grouped-query) by key bias (without or with), and how
  much each factor adds to NLL and disagreement.

``--runs`` names run directories of pytest whose outputs and scores are copied to ``DIR/run`` first. An
engine is started only for what is not there yet, and what it produces is kept there too, so that an
interrupted recording goes on where it stopped; with ``--recorded`` none is started. Verdicts are decided
anew, under the default limits.

Intervals of NLL and agreement are 95 % percentile bootstraps over prompts. Engines use the cores this process
may use; prefix the command with ``taskset -c 0`` to leave the others alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from evidence.factors import FACTORS, effects
from evidence.page import page
from evidence.recorded import BASELINE, Recordings, adopt, target
from evidence.rows import figures_of, row_of

from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.plan import Request, is_scored, make_plan
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.refmodels import RECIPES
from pytest_kvcache.refmodels.recipes import Quantized, Rewritten, Rotated, Untouched
from pytest_kvcache.session import Session
from pytest_kvcache.store import RunStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CANDIDATES = ("fp8_e4m3", "fp8_e5m2")
DTYPES = (BASELINE, *CANDIDATES)
WRITERS = tuple(
    name
    for name, recipe in RECIPES.items()
    if isinstance(recipe, Untouched | Rewritten | Rotated | Quantized)
)
"""Models that write, and whose `auto` is no quantized cache."""
SECONDS_PER_STEP = 3600.0


def main() -> int:
    arguments = _arguments()
    sets = [load_prompt_set(name) for name in (arguments.prompts, arguments.penalised, arguments.tasks)]
    recordings = Recordings(RunStore(arguments.out / "run"), sets)
    for run in arguments.runs:
        adopt(run, recordings.store)
    began = time.monotonic()
    if not arguments.recorded:
        record(recordings, arguments.models)
    print(f"recorded in {(time.monotonic() - began) / 60:.1f} minutes", file=sys.stderr)
    rows = [row_of(recordings, model, dtype) for model, dtype in product(arguments.models, DTYPES)]
    figures = {
        (model, dtype): figures_of(recordings.evidence_at_hand(model, dtype)[0])[0]
        for model, dtype in product(set(FACTORS) & set(arguments.models), DTYPES)
    }
    two_by_two = {dtype: found for dtype in CANDIDATES if (found := effects(figures, dtype))}
    everything = {"prompt_sets": [each.name for each in sets], "rows": rows, "two_by_two": two_by_two}
    (arguments.out / "reference-models.json").write_bytes(
        msgspec.json.format(msgspec.json.encode(everything)) + b"\n"
    )
    text = "\n".join(page(rows, two_by_two, sets)) + "\n"
    (arguments.out / "reference-evidence.md").write_text(text, encoding="utf-8")
    return 0


def record(recordings: Recordings, models: Sequence[str]) -> None:
    """Start engines for what the recordings lack of these models."""
    targets = [target(model, dtype) for model, dtype in product(models, DTYPES)]
    sets = tuple(recordings.prompt_sets)
    session = Session(
        make_plan([Request(each, sets, with_scores=True) for each in targets]),
        recordings.store,
        child_engine_factory(SECONDS_PER_STEP),
        DevicePool(),
        notify=_report_steps(),
    )
    try:
        for each, prompt_set in product(targets, sets):
            session.outputs(each, prompt_set)
            if is_scored(prompt_set):
                session.scores(each, prompt_set)
                session.floor(each, prompt_set)
    finally:
        session.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Record what the reference models do under each kv dtype.")
    parser.add_argument("--models", nargs="+", default=WRITERS, choices=WRITERS, metavar="NAME")
    for name, default, what in (
        ("--prompts", "smoke", "the set to write and score"),
        ("--penalised", "smoke-penalised", "the set with a penalty"),
        ("--tasks", "smoke-tasks", "the set with right answers"),
    ):
        parser.add_argument(name, default=default, metavar="SET", help=f"{what} (default: {default})")
    parser.add_argument(
        "--runs", nargs="+", type=_run_directory, default=[], metavar="DIR", help="earlier runs to read"
    )
    parser.add_argument(
        "--recorded", action="store_true", help="start no engine: do without what was not recorded"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    return parser.parse_args()


def _run_directory(path: str) -> Path:
    if not (Path(path) / "engines").is_dir():
        raise argparse.ArgumentTypeError(f"{path} is no run directory: it has no engines/")
    return Path(path)


def _report_steps() -> Callable[[str, str, int, int], None]:
    said: set[tuple[str, str]] = set()

    def report(label: str, phase: str, _done: int, _total: int) -> None:
        if (label, phase) not in said:
            said.add((label, phase))
            print(f"{time.strftime('%H:%M:%S')} {label}: {phase}", file=sys.stderr, flush=True)

    return report


if __name__ == "__main__":
    sys.exit(main())
