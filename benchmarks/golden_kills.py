"""Kills refreshes of goldens at every boundary and at random, and counts goldens torn or lost.

    python benchmarks/golden_kills.py [--scripted 190] [--vllm 10] [--model gqa]

Each round has a directory of goldens written by one engine setting and refreshes it under another, so that
every golden changes. The refreshing pytest process, or one of its two workers, dies by SIGKILL: before,
during and after each write, fsync, rename and removal of shards and goldens (`killing.py`), and at random
times over the whole run. Afterwards every golden must be there and read as exactly the old one or exactly the
new one; anything else is torn or lost. After every tenth round the refresh is run again to its end, which
must leave the new goldens and nothing beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, cycle, islice
from pathlib import Path

from pytest_kvcache.errors import KvCacheError
from pytest_kvcache.golden import GoldenDirectory
from pytest_kvcache.measures.paired import share_interval

HERE = Path(__file__).parent
TESTS = HERE.parent / "tests"
PATH = f"{HERE}{os.pathsep}{HERE.parent}"
CONFTEST = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
import scripted
from pytest_kvcache.engines.launch import child_engine_factory

def pytest_kvcache_engine_factory(config, timeout):
    return child_engine_factory(timeout, scripted.COMMAND)
"""
OF_BASELINE = """
import pytest

@pytest.mark.kv_sensitive(prompts={prompts!r})
def test_verdict(kv_verdict):
    pass
"""
OF_CANDIDATE = """
@pytest.mark.kv_sensitive(prompts={prompts!r})
def test_golden(kv_outputs, kv_golden):
    pass
"""
RECOVER_EVERY = 10
MOST_ROUNDS = 3
"""For each kill, before it gives up: the worker that is to die may be the one that ends earlier."""
SECONDS = 600.0


@dataclass(frozen=True)
class Kill:
    """How one round dies. ``at``: a boundary's number, or seconds after the start for a random one."""

    role: str
    at: float
    when: str

    @property
    def name(self) -> str:
        return f"{self.role}, {'random' if self.when == 'random' else 'boundary'}"


@dataclass
class Tally:
    rounds: Counter[str] = field(default_factory=Counter)
    died: Counter[str] = field(default_factory=Counter)
    old: int = 0
    new: int = 0
    torn: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    recovered: int = 0
    not_recovered: list[str] = field(default_factory=list)


class Project:
    """A repository with goldens, and the commands that refresh them."""

    def __init__(self, root: Path, old: Sequence[str], new: Sequence[str], tests: str, conftest: str) -> None:
        self.root = root
        self._old, self._new = old, new
        (root / "conftest.py").write_text(conftest)
        (root / "test_it.py").write_text(tests)
        self._keep(old, "golden-old")
        self._keep(new, "golden-new")

    def _keep(self, setting: Sequence[str], name: str) -> None:
        """Refresh from what the other setting wrote, and keep the result as what a whole refresh gives."""
        done = self.refresh(setting, ())
        if done.wait(SECONDS):
            sys.exit(f"the refresh itself fails:\n{done.stdout.read() if done.stdout else ''}")
        shutil.copytree(self.goldens, self.root / name, dirs_exist_ok=True)

    @property
    def goldens(self) -> Path:
        return self.root / "golden"

    def restore(self) -> None:
        shutil.rmtree(self.goldens, ignore_errors=True)
        shutil.copytree(self.root / "golden-old", self.goldens)

    def refresh(
        self, setting: Sequence[str] | None, extra: Sequence[str], environment: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--kv-no-cache"]
        command.append("--kv-golden-update=all")
        return subprocess.Popen(
            [*command, *(self._new if setting is None else setting), *extra],
            cwd=self.root,
            env={**_without_ci(os.environ), "PYTHONPATH": PATH, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def boundaries(self, role: str, extra: Sequence[str]) -> tuple[list[str], float]:
        """List the boundaries of an undisturbed refresh, and how long it takes."""
        self.restore()
        log = self.root / "boundaries.log"
        log.unlink(missing_ok=True)
        began = time.monotonic()
        running = self.refresh(None, [*extra, "-p", "killing"], self.killing(role, log))
        running.communicate(timeout=SECONDS)
        return (log.read_text().splitlines() if log.exists() else []), time.monotonic() - began

    def killing(self, role: str, log: Path) -> dict[str, str]:
        return {"KILLING_IN": f"{self.goldens}/", "KILLING_ROLE": role, "KILLING_LOG": str(log)}


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill refreshes of goldens; count goldens torn or lost.")
    parser.add_argument("--scripted", type=int, default=190, help="kills with the scripted engine")
    parser.add_argument("--vllm", type=int, default=10, help="kills with real vLLM")
    parser.add_argument("--model", default="gqa", help="the reference model of the real rounds")
    options = parser.parse_args()
    # On one core an engine has one thread with xdist and without: the number of threads is part of a golden.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torn = 0
    if options.scripted:
        with tempfile.TemporaryDirectory() as scratch:
            torn += _report("scripted engine", _run(_scripted(Path(scratch)), options.scripted))
    if options.vllm:
        with tempfile.TemporaryDirectory() as scratch:
            torn += _report("real vLLM", _run(_real(Path(scratch), options.model), options.vllm))
    return 1 if torn else 0


def _scripted(root: Path) -> Project:
    gate = ("--kv-dtypes=fp8,auto", "--kv-models=scripted/model")
    old, new = ((*gate, f"--kv-engine-arg=says={words}") for words in ("old", "new"))
    _write_sets(root)
    return Project(root, old, new, (OF_BASELINE + OF_CANDIDATE).format(prompts=SETS), CONFTEST)


def _real(root: Path, model: str) -> Project:
    gate = ("--kv-dtypes=fp8,auto", f"--kv-models=ref:{model}")
    old, new = ((*gate, f"--kv-engine-arg=max_model_len={length}") for length in (512, 1024))
    _write_sets(root)
    return Project(root, old, new, OF_BASELINE.format(prompts=SETS), "")


def _write_sets(root: Path) -> None:
    """Write two small sets, one of them under a penalty and so without scores."""
    prompts = [{"id": f"p{i}", "kind": "completion", "text": text} for i, text in enumerate(OPENINGS)]
    for name, penalty in zip(SETS, (1.0, 1.1), strict=True):
        header = {"sampling": {"max_tokens": 48, "repetition_penalty": penalty}}
        lines = [json.dumps(line) for line in (header, *prompts)]
        (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


SETS = ["few.jsonl", "few-penalised.jsonl"]
OPENINGS = ("The capital of France is", "Water boils at", "Once upon a time", "To bake bread you need")


def _run(project: Project, kills: int) -> Tally:
    """Go on until so many refreshes have died: one whose boundary never came is a round, and no kill."""
    tally = Tally()
    for number, kill in enumerate(islice(_kills(project), MOST_ROUNDS * kills), start=1):
        project.restore()
        died = _killed_refresh(project, kill)
        tally.rounds[kill.name] += 1
        tally.died[kill.name] += died
        _look(project, tally, f"round {number} ({kill})")
        if number % RECOVER_EVERY == 0:
            _recover(project, tally, f"round {number}")
        dead = sum(tally.died.values())
        print(f"\r{dead} of {kills} in {number} rounds", end="", file=sys.stderr, flush=True)
        if dead >= kills:
            break
    print(file=sys.stderr)
    return tally


def _kills(project: Project) -> Iterator[Kill]:
    """Yield boundary kills of each role spread over all boundaries, and a third of them at random times."""
    kinds: list[Iterator[Kill]] = []
    for role, extra in (("controller", ()), ("controller", XDIST), ("worker", XDIST)):
        lines, seconds = project.boundaries(role, extra)
        print(f"{role}{' under xdist' * bool(extra)}: {len(lines)} boundaries, {seconds:.1f} s")
        named = f"{role}{' -n 2' * bool(extra)}"
        whens = [
            Kill(named, at, when)
            for at, line in enumerate(lines)
            for when in (("before", "during", "after") if line.startswith("write") else ("before", "after"))
        ]
        dice = random.Random(named)
        dice.shuffle(whens)
        # All boundaries once before any of them twice.
        kinds += [cycle(whens)] * 2 if whens else []
        kinds += [_at_random(named, dice, seconds)]
    yield from chain.from_iterable(zip(*kinds, strict=False))


def _at_random(named: str, dice: random.Random, seconds: float) -> Iterator[Kill]:
    while True:
        yield Kill(named, dice.uniform(0, seconds), "random")


XDIST = ("-n", "2")


def _killed_refresh(project: Project, kill: Kill) -> bool:
    """Run one refresh that dies as told; return whether the one that was to die did."""
    extra = XDIST if "-n" in kill.role else ()
    role = kill.role.split()[0]
    if kill.when == "random":
        running = project.refresh(None, extra)
        time.sleep(kill.at)
        alive = running.poll() is None
        victim = _victim(running, role)
        if victim is not None:
            _kill(victim)
        if role == "controller" or victim is None:
            _kill_group(running)
        running.communicate(timeout=SECONDS)
        return alive and victim is not None
    log = project.root / "killed.log"
    log.unlink(missing_ok=True)
    orders = {"KILLING_AT": str(int(kill.at)), "KILLING_WHEN": kill.when}
    running = project.refresh(None, [*extra, "-p", "killing"], project.killing(role, log) | orders)
    running.communicate(timeout=SECONDS)
    reached = log.exists() and len(log.read_text().splitlines()) > kill.at
    return reached and running.returncode != 0


def _victim(running: subprocess.Popen[str], role: str) -> int | None:
    if role == "controller":
        return running.pid if running.poll() is None else None
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    pids = children.read_text().split() if children.exists() else []
    return int(random.choice(pids)) if pids else None


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _kill_group(running: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)


def _look(project: Project, tally: Tally, what: str) -> None:
    """Compare every golden with its old and its new state."""
    old, new, now = (GoldenDirectory(project.root / name) for name in ("golden-old", "golden-new", "golden"))
    for name in old.names():
        try:
            found = now.get(name)
        except KvCacheError as error:
            tally.torn.append(f"{what}: {error}")
            continue
        if found is None:
            tally.lost.append(f"{what}: {name}")
        elif found == old.get(name):
            tally.old += 1
        elif found == new.get(name):
            tally.new += 1
        else:
            tally.torn.append(f"{what}: {name} is neither the old nor the new one")


def _recover(project: Project, tally: Tally, what: str) -> None:
    running = project.refresh(None, ())
    output, _ = running.communicate(timeout=SECONDS)
    new, now = GoldenDirectory(project.root / "golden-new"), GoldenDirectory(project.goldens)
    whole = all(now.get(name) == new.get(name) for name in new.names())
    if running.returncode == 0 and whole and not now.problems():
        tally.recovered += 1
    else:
        tally.not_recovered.append(f"{what}: exit {running.returncode}\n{output}")


def _report(engine: str, tally: Tally) -> int:
    total = sum(tally.rounds.values())
    torn, lost = len(tally.torn), len(tally.lost)
    print(f"\n{engine}: {total} rounds, {sum(tally.died.values())} of them died by the kill")
    print("| killed | rounds | died |\n| --- | --- | --- |")
    for name, rounds in sorted(tally.rounds.items()):
        print(f"| {name} | {rounds} | {tally.died[name]} |")
    seen = tally.old + tally.new + torn + lost
    interval = share_interval(torn + lost, seen)
    print(f"goldens looked at: {seen}; old {tally.old}, new {tally.new}, torn {torn}, lost {lost}")
    print(f"torn or lost: {interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]")
    print(f"refreshed whole afterwards: {tally.recovered} of {tally.recovered + len(tally.not_recovered)}")
    for line in [*tally.torn, *tally.lost, *tally.not_recovered]:
        print(f"  {line}")
    return torn + lost + len(tally.not_recovered)


def _without_ci(environment: os._Environ[str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name != "CI"}


if __name__ == "__main__":
    sys.exit(main())
