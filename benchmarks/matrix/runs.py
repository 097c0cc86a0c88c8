"""Runs: which pytest commands the matrix takes, each with as many faults as can share a baseline."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from matrix.catalogue import ROOT, Catalogue, Control, Fault, Tier

POLICY = ROOT / "tests" / "faults" / "policy.toml"
SCRATCH = ROOT / "build" / "matrix"
MINUTES = {"smoke": 1.8, "full": 9.0, "own": 2.5}
"""Minutes of one engine on one core: the smoke tier, the full tier, and one suite of the full tier."""

TOGETHER = 12
"""Faults of one run: they share a baseline, and what they found is kept only when it ends."""


@dataclass(frozen=True, slots=True)
class Run:
    """One pytest run over the shipped suites."""

    name: str
    tier: Tier
    model: str
    dtypes: tuple[str, ...]
    """Candidates; the baseline comes besides."""
    baseline: str
    minutes_each: float
    """About what one engine takes."""
    pairs: str = ""
    """Which tests of which targets, as ``-k`` takes it; all where it is empty."""
    seed: int = 0
    """By which prompts are drawn; the shipped ones where it is 0."""

    @property
    def engine_minutes(self) -> float:
        return self.minutes_each * (len(self.dtypes) + 1)

    def command(self, workers: int) -> list[str]:
        return [
            *(sys.executable, "-m", "pytest", "suites", "-q", "-n", str(workers)),
            *("-m", f"kv_{self.tier}"),
            *(("-k", self.pairs) if self.pairs else ()),
            *(("-p", "matrix.redrawn", f"--redrawn={self.seed}") if self.seed else ()),
            f"--kv-models={self.model}",
            f"--kv-dtypes={','.join([*self.dtypes, self.baseline])}",
            f"--kv-baseline={self.baseline}",
            f"--kv-policy={POLICY.relative_to(ROOT)}",
            "--kv-no-cache",
            f"--kv-report={self.directory.relative_to(ROOT)}",
            f"--junitxml={self.directory.relative_to(ROOT)}/junit.xml",
        ]

    @property
    def directory(self) -> Path:
        """Where its reports are left."""
        return SCRATCH / (f"{self.name}-{self.seed}" if self.seed else self.name)


def all_runs(catalogue: Catalogue, only: Sequence[str] = ()) -> list[Run]:
    """Return the runs of the whole matrix, or of those faults and controls (by model) named in ``only``."""
    faults = [fault for fault in catalogue.fault if not only or fault.name in only]
    controls = [control for control in catalogue.control if not only or control.model in only]
    return [*_smoke(faults), *_own(faults), *_controls(controls)]


def execute(run: Run, workers: int) -> float:
    """Run it, output and all, and return the seconds that it took. Faults make its tests fail."""
    shutil.rmtree(run.directory, ignore_errors=True)
    path = os.pathsep.join(filter(None, ["tests", "benchmarks", os.environ.get("PYTHONPATH")]))
    began = time.monotonic()
    subprocess.run(run.command(workers), cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, check=False)
    return time.monotonic() - began


def _smoke(faults: Sequence[Fault]) -> Iterator[Run]:
    for (model, baseline), group in _by_engine(faults):
        for start in range(0, len(group), TOGETHER):
            some = _dtypes(group[start : start + TOGETHER])
            name = _name(f"smoke-{start // TOGETHER + 1}", model, baseline)
            yield Run(name, "smoke", model, some, baseline, MINUTES["smoke"])


def _own(faults: Sequence[Fault]) -> Iterator[Run]:
    """Of the full tier the suites that are wanted of each fault, mostly its own alone."""
    wanted = [fault for fault in faults if fault.full_suites]
    for (model, baseline), group in _by_engine(wanted):
        asked = [(suite, fault.target) for fault in group for suite in fault.full_suites]
        pairs = " or ".join(f"(test_{suite}.py and [{target}])" for suite, target in asked)
        yield Run(
            _name("own", model, baseline), "full", model, _dtypes(group), baseline, MINUTES["own"], pairs
        )


def _controls(controls: Sequence[Control]) -> Iterator[Run]:
    for control in controls:
        for tier in control.tiers:
            name = _name(f"control-{tier}", control.model, control.baseline)
            shipped = Run(name, tier, control.model, control.dtypes, control.baseline, MINUTES[tier])
            yield shipped
            for seed in range(1, control.repetitions.get(tier, 0) + 1):
                yield replace(shipped, dtypes=control.dtypes[:1], seed=seed)


def _by_engine(faults: Sequence[Fault]) -> Iterator[tuple[tuple[str, str], list[Fault]]]:
    def key(fault: Fault) -> tuple[str, str]:
        return fault.model, fault.baseline

    for engine, group in groupby(sorted(faults, key=key), key):
        yield engine, list(group)


def _dtypes(faults: Sequence[Fault]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(fault.candidate for fault in faults))


def _name(kind: str, model: str, baseline: str) -> str:
    """Return a name that no other run has: two baselines of one model are two runs."""
    name = f"{kind}-{model.removeprefix('ref:')}"
    return name if baseline == "auto" else f"{name}-{baseline}"
