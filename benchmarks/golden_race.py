"""Eight processes refresh one directory of goldens at once: how many updates are lost?

    python benchmarks/golden_race.py [--rounds 5] [--processes 8]

Three races, each with fresh goldens, on the scripted engine:

*apart*     each process refreshes a golden of its own; all must succeed, and all goldens be new
*same*      all refresh one golden to the same content; all must succeed
*conflict*  each refreshes its own golden and one that all share, to contents that differ: who commits a
            golden that another process has changed meanwhile must fail whole, and write nothing

An update is lost if a process says that it committed (exit status 0) and its golden does not hold what it
wrote, and is stolen if a process that failed changed anything.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from golden_kills import CONFTEST, SECONDS, Project

from pytest_kvcache.golden import GoldenDirectory
from pytest_kvcache.records import Golden

TEST = """
import pytest

@pytest.mark.kv_sensitive(prompts="{prompts}", max_tokens={tokens})
def test_{name}(kv_verdict):
    pass
"""
OWN_TOKENS = 100


def main() -> int:
    parser = argparse.ArgumentParser(description="Refresh one directory of goldens from many processes.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=8)
    options = parser.parse_args()
    bad = 0
    print("| race | rounds | processes | exit 0 | refused | goldens checked | lost | stolen | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for race in (apart, same, conflict):
        counts: Counter[str] = Counter()
        began = time.monotonic()
        for _ in range(options.rounds):
            with tempfile.TemporaryDirectory() as scratch:
                counts += race(_project(Path(scratch), options.processes), options.processes)
        seconds = (time.monotonic() - began) / options.rounds
        cells = [counts[key] for key in ("exit 0", "refused", "checked", "lost", "stolen")]
        row = (race.__name__, options.rounds, options.processes, *cells, f"{seconds:.1f}")
        print(f"| {' | '.join(map(str, row))} |")
        bad += counts["lost"] + counts["stolen"]
    return 1 if bad else 0


def apart(project: Project, processes: int) -> Counter[str]:
    """Each its own golden."""
    codes = _race(project, [(_says("new"), [f"test_own_{i}"]) for i in range(processes)])
    return _judge(project, codes, [[_own(i)] for i in range(processes)], ["new"] * processes)


def same(project: Project, processes: int) -> Counter[str]:
    """All one golden, to the same content."""
    codes = _race(project, [(_says("new"), ["test_shared"])] * processes)
    return _judge(project, codes, [[_is_shared]] * processes, ["new"] * processes)


def conflict(project: Project, processes: int) -> Counter[str]:
    """Each its own and the shared one, to contents of its own."""
    words = [f"new{i}" for i in range(processes)]
    runs = [(_says(word), [f"test_own_{i}", "test_shared"]) for i, word in enumerate(words)]
    codes = _race(project, runs)
    counts = _judge(project, codes, [[_own(i)] for i in range(processes)], words)
    winners = [word for word, code in zip(words, codes, strict=True) if code == 0]
    (shared,) = _chosen(project, _is_shared)
    counts["checked"] += 1
    counts["lost"] += _words_of(shared) not in winners if winners else _words_of(shared) != "old"
    return counts


def _project(root: Path, processes: int) -> Project:
    own = [
        TEST.format(prompts="smoke-penalised", tokens=OWN_TOKENS + i, name=f"own_{i}")
        for i in range(processes)
    ]
    tests = "".join([TEST.format(prompts="smoke", tokens=64, name="shared"), *own])
    # As many keepers of the same state: the races compare with the engine argument, not with a directory.
    project = Project(root, _says("old"), _says("old"), tests, CONFTEST)
    shutil.rmtree(root / "golden-new")
    return project


def _says(word: str) -> tuple[str, ...]:
    return ("--kv-dtypes=auto,fp8", "--kv-models=scripted/model", f"--kv-engine-arg=says={word}")


def _race(project: Project, runs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> list[int]:
    project.restore()
    started: list[subprocess.Popen[str]] = []
    for number, (setting, tests) in enumerate(runs):
        extra = ["-k", " or ".join(tests), f"--kv-report=report-{number}"]
        started.append(project.refresh(setting, extra))
    for process in started:
        process.communicate(timeout=SECONDS)
    return [process.returncode for process in started]


def _judge(
    project: Project,
    codes: Sequence[int],
    owned: Sequence[Sequence[Callable[[Golden], bool]]],
    words: Sequence[str],
) -> Counter[str]:
    counts: Counter[str] = Counter()
    for code, conditions, word in zip(codes, owned, words, strict=True):
        counts["exit 0" if code == 0 else "refused"] += 1
        for condition in conditions:
            for golden in _chosen(project, condition):
                counts["checked"] += 1
                if code == 0:
                    counts["lost"] += _words_of(golden) != word
                else:
                    counts["stolen"] += _words_of(golden) == word
    return counts


def _chosen(project: Project, condition: Callable[[Golden], bool]) -> list[Golden]:
    directory = GoldenDirectory(project.goldens)
    goldens = [golden for name in directory.names() if (golden := directory.get(name))]
    chosen = list(filter(condition, goldens))
    if len(chosen) != 1:
        sys.exit(f"{len(chosen)} goldens where there should be one: {directory.names()}")
    return chosen


def _own(number: int) -> Callable[[Golden], bool]:
    return lambda golden: golden.prompt_set.sampling.max_tokens == OWN_TOKENS + number


def _is_shared(golden: Golden) -> bool:
    return golden.prompt_set.name == "smoke"


def _words_of(golden: Golden) -> str:
    return str(golden.outputs.spec.arguments()["says"])


if __name__ == "__main__":
    sys.exit(main())
