"""What the installed but unused plugin adds to ``pytest --collect-only`` of a suite that needs no engine.

    python benchmarks/startup.py [--rounds 40]

Makes two virtual environments with nothing in them but pytest: one where the project is installed from its
wheel, one without it. A round runs the same suite three times, in an order that rotates: with the plugin,
with ``-p no:kvcache``, and where it is not installed. The figures are differences within each round, in
wall time and in processor time; the latter suffers less from other programs. At the end, what the plugin
imports, as ``python -X importtime`` tells it.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Sequence
from importlib.metadata import distribution, version
from pathlib import Path
from typing import NamedTuple

from pytest_kvcache.measures.paired import median_interval

PROJECT = Path(__file__).parents[1]
SOURCES = ("pytest_kvcache", "suites", "pyproject.toml", "README.md", "LICENSE")
PYTEST_AND_ITS_NEEDS = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")
MODULES, TESTS = 20, 20
COLLECT = ("-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider")
LOADED_BY_PYTEST = ("pytest_kvcache.plugin", "pytest_kvcache.hooks")
"""By its entry point, and by the hook that registers further ones."""


class Cost(NamedTuple):
    """Milliseconds of one run of pytest."""

    wall: float
    processor: float


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the start of pytest with the plugin and without.")
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        suite = make_suite(Path(scratch, "suite"))
        bare = make_environment(Path(scratch, "bare"))
        installed = make_environment(Path(scratch, "installed"))
        install(Path(scratch, "source"), installed)
        commands = {
            "plugin installed, unused": [installed, *COLLECT],
            "`-p no:kvcache`": [installed, *COLLECT, "-p", "no:kvcache"],
            "not installed": [bare, *COLLECT],
        }
        print(f"Python {sys.version.split()[0]}, pytest {version('pytest')}, {MODULES * TESTS} tests\n")
        print_costs(measure(list(commands.values()), suite, arguments.rounds), list(commands))
        print_imports(installed)


def make_suite(directory: Path) -> Path:
    directory.mkdir()
    tests = "\n".join(f"def test_{number}():\n    assert True\n" for number in range(TESTS))
    for module in range(MODULES):
        (directory / f"test_module_{module}.py").write_text(tests)
    return directory


def make_environment(at: Path) -> str:
    """Make a virtual environment that holds pytest alone, linked from this one; return its interpreter."""
    venv.create(at, symlinks=True)
    [site_packages] = at.glob("lib/python*/site-packages")
    here = Path(sysconfig.get_path("purelib"))
    for name in PYTEST_AND_ITS_NEEDS:
        for top in {file.parts[0] for file in distribution(name).files or ()} - {".."}:
            (site_packages / top).symlink_to(here / top)
    return str(at / "bin" / "python")


def install(source: Path, python: str) -> None:
    """Install the project from a copy, so that building its wheel leaves no trace in the working tree."""
    source.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        copy(PROJECT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", "--no-build-isolation", f"--wheel-dir={source}", str(source)]
    subprocess.run([*build, "--no-deps", "--no-index"], check=True)
    [wheel] = source.glob("*.whl")
    subprocess.run([*pip, "--python", python, "install", "--no-deps", "--no-index", str(wheel)], check=True)


def measure(commands: Sequence[list[str]], suite: Path, rounds: int) -> list[list[Cost]]:
    """Return the costs of each round, in the order of the commands; a first round, unmeasured, warms up."""
    costs = []
    for turn in range(rounds + 1):
        order = [(turn + i) % len(commands) for i in range(len(commands))]
        run = {i: cost_of(commands[i], suite) for i in order}
        costs.append([run[i] for i in range(len(commands))])
    return costs[1:]


def cost_of(command: list[str], suite: Path) -> Cost:
    before, began = processor_seconds(), time.perf_counter()
    subprocess.run(command, cwd=suite, env=environment(), stdout=subprocess.DEVNULL, check=True)
    wall, processor = time.perf_counter() - began, processor_seconds() - before
    return Cost(1e3 * wall, 1e3 * processor)


def processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}


def print_costs(rounds: Sequence[Sequence[Cost]], names: Sequence[str]) -> None:
    print(f"Milliseconds, medians of {len(rounds)} rounds with 95 % intervals:\n")
    print("| | wall | processor |\n| --- | --- | --- |")
    for i, name in enumerate(names):
        print_row(name, [costs[i] for costs in rounds])
    for i, name in enumerate(names[1:], start=1):
        differences = [Cost(*(a - b for a, b in zip(costs[0], costs[i], strict=True))) for costs in rounds]
        print_row(f"difference to: {name}", differences)


def print_row(name: str, costs: Sequence[Cost]) -> None:
    wall, processor = zip(*costs, strict=True)
    print(f"| {name} | {interval(wall)} | {interval(processor)} |")


def interval(values: Sequence[float]) -> str:
    found = median_interval(values)
    return f"{found.value:.1f} [{found.low:.1f}, {found.high:.1f}]"


def print_imports(python: str) -> None:
    """Print what the plugin imports beyond what pytest does, and the time of each module by itself."""
    without = imports(python, "import pytest")
    added = {
        name: micros
        for name, micros in imports(python, f"import pytest, {', '.join(LOADED_BY_PYTEST)}").items()
        if name not in without
    }
    print("\n| imported because of the plugin | microseconds |\n| --- | --- |")
    for name, micros in added.items():
        print(f"| `{name}` | {micros} |")
    print(f"| together | {sum(added.values())} |")


def imports(python: str, statement: str) -> dict[str, int]:
    """Return the modules that a statement imports, each with the microseconds of itself."""
    command = [python, "-X", "importtime", "-c", statement]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    lines = re.findall(r"^import time: +(\d+) \| +\d+ \| +(\S+)$", done.stderr, re.MULTILINE)
    return {name: int(micros) for micros, name in lines}


if __name__ == "__main__":
    main()
