"""Outcomes: what pytest's reports of the runs say of every suite and target, kept as one JSON file."""

from __future__ import annotations

import json
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from matrix.catalogue import ROOT, RedBy, Tier
from matrix.runs import Run

RECORD = ROOT / "docs" / "matrix" / "results.json"
Red = Literal["quality", "engine", "refused", "undecided"]
"""A loss of quality or of a setting; an engine that is gone; one that the plugin would not judge, before the
test began; too little evidence."""
NO_JUDGEMENT = frozenset({"engine-failed", "too-little-evidence", "noise", "undecided"})
"""Reasons by which nothing was found: it could not be judged."""
OF_BASELINE = "baseline-"
"""How reasons begin that are about the baseline and say nothing of the candidate."""


class Outcome(Struct, frozen=True):
    """What one test said of one target."""

    suite: str
    """Its file, without ``test_``."""
    test: str
    target: str
    state: Literal["passed", "failed", "skipped"]
    red: Red | None
    """By what it failed; None too where it failed by something else, such as an error in the test itself."""
    message: str
    """The first line of its failure or reason for skipping, paths relative to the project."""
    codes: tuple[str, ...] = ()
    """Reason codes of its failure; of tests that are no verdicts since the plugin reports them."""

    @property
    def is_of_baseline(self) -> bool:
        """Whether it failed by its baseline, and by nothing that was found of the candidate."""
        judged = [code for code in self.codes if code not in NO_JUDGEMENT]
        return bool(judged) and all(code.startswith(OF_BASELINE) for code in judged)

    def caught(self, by: RedBy) -> bool:
        if by == "any":
            return self.red in ("quality", "refused")
        return self.red == by


class Recorded(Struct, frozen=True):
    """One run as it ended."""

    name: str
    tier: Tier
    day: date
    seconds: float
    engine_minutes: float
    """Of all engines: starting, generating and scoring."""
    outcomes: tuple[Outcome, ...]
    seed: int = 0
    """By which its prompts were drawn; the shipped ones where it is 0."""
    commit: str = ""
    """Of the project; empty of runs that did not note it."""
    workers: int = 0
    """pytest's, of which each runs an engine at a time; 0 of runs that did not note it."""


def recorded(run: Run, seconds: float, workers: int, directory: Path) -> Recorded:
    """Read what a run left in a directory. Raises FileNotFoundError if pytest never came to an end."""
    return Recorded(
        name=run.name,
        tier=run.tier,
        day=date.today(),
        seconds=seconds,
        engine_minutes=_engine_minutes(directory),
        outcomes=tuple(_outcomes(directory / "junit.xml")),
        seed=run.seed,
        commit=_commit(),
        workers=workers,
    )


def read_record(path: Path = RECORD) -> list[Recorded]:
    return msgspec.json.decode(path.read_bytes(), type=list[Recorded]) if path.exists() else []


def keep(run: Recorded, path: Path = RECORD) -> None:
    """Put a run into the record, in the place of what older ones say of its tests, tier and prompts."""
    older = (_without(old, run) for old in read_record(path))
    runs = [*(old for old in older if old.outcomes), run]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(runs), indent=1) + b"\n")


def _without(old: Recorded, new: Recorded) -> Recorded:
    if (old.tier, old.seed) != (new.tier, new.seed):
        return old
    said = {(outcome.target, outcome.suite, outcome.test) for outcome in new.outcomes}
    outcomes = tuple(o for o in old.outcomes if (o.target, o.suite, o.test) not in said)
    return msgspec.structs.replace(old, outcomes=outcomes)


def _commit() -> str:
    """Return the project's commit, marked where its code is not what was committed."""
    code = ("--", "pytest_kvcache", "suites", "tests", "benchmarks")
    return _git("rev-parse", "--short", "HEAD") + "-dirty" * bool(_git("status", "--porcelain", *code))


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _outcomes(junit: Path) -> Iterator[Outcome]:
    for case in ET.parse(junit).iter("testcase"):
        properties = {p.get("name", ""): p.get("value", "") for p in case.iter("property")}
        name, suite = case.get("name", ""), case.get("classname", "").rpartition(".")[2]
        troubles = [(kind, case.find(kind)) for kind in ("error", "failure", "skipped")]
        kind, trouble = next(((k, t) for k, t in troubles if t is not None), ("", None))
        message = (trouble.get("message") or "").strip() if trouble is not None else ""
        yield Outcome(
            suite=suite.removeprefix("test_"),
            test=name.partition("[")[0],
            target=properties.get("kv_target", name.partition("[")[2].rstrip("]")),
            state="passed" if trouble is None else "skipped" if kind == "skipped" else "failed",
            red=_red(message, properties) if kind in ("error", "failure") else None,
            message=message.partition("\n")[0].replace(f"{ROOT}/", ""),
            codes=tuple(properties.get("kv_reasons", "").split()) if kind in ("error", "failure") else (),
        )


def _red(message: str, properties: dict[str, str]) -> Red | None:
    reasons = set(properties.get("kv_reasons", "").split())
    if reasons - NO_JUDGEMENT:
        return "quality"
    if reasons:
        return "engine" if "engine-failed" in reasons else "undecided"
    if "QualityError" in message:
        return "quality"
    if error := properties.get("kv_error"):
        return "engine" if error == "EngineError" else "refused"
    return None


def _engine_minutes(report: Path) -> float:
    engines = json.loads((report / "results.json").read_text(encoding="utf-8"))["engines"]
    phases = ("seconds_to_start", "seconds_to_generate", "seconds_to_score")
    return sum(float(engine[phase]) for engine in engines for phase in phases) / 60
