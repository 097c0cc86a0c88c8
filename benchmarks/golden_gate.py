"""The gate with goldens beside the gate with two engines: the same verdicts, and in what share of the time?

    python benchmarks/golden_gate.py verdicts --run RUN
    python benchmarks/golden_gate.py time [--models gqa gqa-kbias] [--workers 2]

``verdicts`` starts no engine. RUN is a run store with what real engines wrote and scored under ``auto`` and
other kv dtypes. For each model and kv dtype it decides twice: beside the recorded baseline, and beside
goldens that were made of it, written to files and read back. ``time`` makes goldens with real vLLM, then
runs the gate with two engines for each model and the gate with goldens, once each. Run nothing else then.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

from pytest_kvcache.engines import Engine
from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.errors import EngineError
from pytest_kvcache.golden import GoldenDirectory
from pytest_kvcache.plan import Target, is_scored, make_plan
from pytest_kvcache.policy import Policy
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import EngineSpec, Golden, PromptSet, Verdict
from pytest_kvcache.session import Session
from pytest_kvcache.store import RunStore

HERE = Path(__file__).parent
SETS = ("smoke", "smoke-penalised", "smoke-tasks")
"""Those of the shipped verdict."""
QUIET = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Compare the gate with goldens and the gate with two engines."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    verdicts = commands.add_parser("verdicts", help="decide twice about recorded outputs")
    verdicts.add_argument("--run", type=Path, required=True, help="a run store")
    verdicts.set_defaults(command=_verdicts)
    timed = commands.add_parser("time", help="time both gates with real vLLM")
    timed.add_argument("--models", nargs="+", default=["gqa", "gqa-kbias"], help="reference models")
    timed.add_argument("--workers", type=int, default=2)
    timed.set_defaults(command=_time)
    options = parser.parse_args()
    result: int = options.command(options)
    return result


# The same verdicts?


def _verdicts(options: argparse.Namespace) -> int:
    recorded = RunStore(options.run)
    sets = [load_prompt_set(name) for name in SETS]
    counts: Counter[bool] = Counter()
    print("| model | kv dtype | two engines | with goldens | same in all figures |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        goldens = GoldenDirectory(Path(scratch) / "golden")
        for target in _targets(recorded, sets):
            fresh = _decide(target, recorded, sets, goldens)
            _keep(recorded, target.baseline, sets, goldens)
            store = RunStore(Path(scratch) / target.id)
            golden_target = replace(target, baseline=target.of_baseline().golden)
            _copy_candidate(recorded, store, target, golden_target, sets)
            kept = _decide(golden_target, store, sets, goldens)
            same = replace(kept, source=fresh.source, golden=fresh.golden) == fresh
            counts[same] += 1
            cells = (target.spec.model, target.kv_dtype, _short(fresh), _short(kept), "yes" if same else "NO")
            print(f"| {' | '.join(cells)} |")
    print(f"\n{counts[True]} of {counts.total()} verdicts are the same in kind, reasons and every figure.")
    return 1 if counts[False] else 0


def _targets(recorded: RunStore, sets: list[PromptSet]) -> Iterator[Target]:
    """Yield each candidate of which the run store holds all, beside its ``auto`` baseline."""
    for model in _models(recorded):
        baseline = EngineSpec(model, "auto")
        for dtype in ("fp8_e4m3", "fp8_e5m2"):
            spec = EngineSpec(model, dtype)
            if all(recorded.has_outputs(each, s) for each in (spec, baseline) for s in sets):
                name = model.removeprefix("ref:")
                yield Target(f"{name}-{dtype}", spec, dtype, None, baseline, f"{name}-auto")


def _models(recorded: RunStore) -> list[str]:
    directories = sorted((recorded.root / "engines").iterdir())
    return [
        "ref:" + d.name.removeprefix("ref-").rpartition("-auto-")[0]
        for d in directories
        if "-auto-" in d.name
    ]


def _keep(recorded: RunStore, spec: EngineSpec, sets: list[PromptSet], goldens: GoldenDirectory) -> None:
    written = []
    for prompt_set in sets:
        outputs = recorded.outputs(spec, prompt_set)
        assert outputs is not None, "only targets with all outputs are looked at"
        scores = recorded.scores(spec, prompt_set, spec)
        written.append(Golden("auto", outputs, scores, recorded.floor(spec, prompt_set)))
    goldens.commit(written)


def _copy_candidate(
    recorded: RunStore, store: RunStore, target: Target, golden_target: Target, sets: list[PromptSet]
) -> None:
    for prompt_set in sets:
        outputs = recorded.outputs(target.spec, prompt_set)
        assert outputs is not None, "only targets with all outputs are looked at"
        store.put_outputs(outputs)
        if is_scored(prompt_set):
            scores = recorded.scores(target.spec, prompt_set, target.baseline)
            assert scores is not None, "a recorded candidate has scored its baseline's texts"
            store.put_scores(replace(scores, text_of=golden_target.baseline.key))


def _decide(target: Target, store: RunStore, sets: list[PromptSet], goldens: GoldenDirectory) -> Verdict:
    def find(spec: EngineSpec, prompt_set: PromptSet) -> Golden:
        return goldens.find(spec.model, spec.golden or "", prompt_set, ("cpu",))

    session = Session(make_plan([]), store, _no_engine, DevicePool(1), find_golden=find)
    return session.verdict(target, sets, Policy(), date.today())


def _no_engine(*_: object, **__: object) -> Engine:
    raise EngineError("something is not recorded, and this benchmark starts no engine")


def _short(verdict: Verdict) -> str:
    codes = ", ".join(dict.fromkeys(reason.code for reason in verdict.reasons))
    return f"{verdict.verdict}{f' ({codes})' * bool(codes)}"


# In what share of the time?


def _time(options: argparse.Namespace) -> int:
    models = ",".join(f"ref:{name}" for name in options.models)
    with tempfile.TemporaryDirectory() as scratch:
        golden = f"--kv-golden-dir={scratch}/golden"
        common = [f"--kv-models={models}", f"--kv-policy={HERE.parent}/suites/reference-policy.toml"]
        common += ["--kv-no-cache", "-m", "kv_smoke", "-n", str(options.workers)]
        runs = {
            "making the goldens": ["--kv-dtypes=auto", "--kv-golden-update=all", golden],
            "gate with two engines": ["--kv-dtypes=fp8,auto"],
            "gate with goldens": ["--kv-dtypes=fp8", "--kv-baseline=golden", golden],
        }
        print(f"{models}, {options.workers} workers, smoke tier", flush=True)
        seconds = {}
        for what, arguments in runs.items():
            seconds[what], last = _seconds([*common, *arguments], Path(scratch) / slug(what))
            print(f"{what}: {seconds[what]:.1f} s; {last}", flush=True)
    print(f"ratio: {seconds['gate with goldens'] / seconds['gate with two engines']:.2f}")
    return 0


def slug(what: str) -> str:
    return what.replace(" ", "-")


def _seconds(arguments: list[str], report: Path) -> tuple[float, str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "suites", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | QUIET
    began = time.monotonic()
    done = subprocess.run(
        [*command, f"--kv-report={report}"],
        cwd=HERE.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
    return time.monotonic() - began, done.stdout.strip().splitlines()[-1]


if __name__ == "__main__":
    sys.exit(main())
