"""The catalogue: faults, their own suites and healthy controls, out of ``tests/faults/faults.toml``."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import msgspec
from msgspec import Struct

ROOT = Path(__file__).parents[2]
CATALOGUE = ROOT / "tests" / "faults" / "faults.toml"
SUITES = ROOT / "suites"

_OF_CANDIDATES = {"kv_verdict", "kv_conditions"}

Tier = Literal["smoke", "full"]
TIERS: tuple[Tier, ...] = get_args(Tier)
RedBy = Literal["quality", "engine", "any"]
"""What a test must fail by to have caught a fault: a loss of quality or of a setting, an engine that is gone,
or any judgement of an engine that runs, also the plugin's own before the test began."""


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault: a target of the plugin, and what is to happen to it."""

    name: str
    symptom: str
    """The class of symptom that it stands for."""
    imitates: str
    injected: str
    suite: str
    """The suite that is to catch it: a file of ``suites/`` without ``test_``."""
    tier: Tier = "smoke"
    """The lower tier in which that suite has a test that can see it."""
    also_full: tuple[str, ...] = ()
    """Suites whose tests of the full tier run on it too, although a suite of the smoke tier can see it."""
    model: str = "ref:gqa"
    dtype: str = ""
    """A kv dtype or variant; the fault's own name where none is given."""
    baseline: str = "auto"
    twin: str = ""
    """A kv dtype under which the model is red without the fault: what is red there has caught nothing."""
    red_by: RedBy = "quality"
    says: str = ""
    """What a failure's message must hold to have been caused by it; any will do where it is empty."""

    @property
    def healthy(self) -> tuple[str, ...]:
        """The targets on which no test may be red that is to have caught it: baseline and twin."""
        if self.suite == "baseline":
            return ()
        return tuple(target_id(self.model, dtype) for dtype in (self.baseline, self.twin) if dtype)

    @property
    def candidate(self) -> str:
        return self.dtype or self.name

    @property
    def target(self) -> str:
        """The id under which the plugin runs and reports it."""
        return target_id(self.model, self.candidate)

    @property
    def suite_exists(self) -> bool:
        return _exists(self.suite)

    @property
    def full_suites(self) -> tuple[str, ...]:
        """The suites whose tests of the full tier run on it, as far as there are such."""
        wanted = dict.fromkeys([*([self.suite] if self.tier == "full" else []), *self.also_full])
        return tuple(filter(_exists, wanted))


class Control(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A healthy model, with the kv dtypes under which every suite is to be green."""

    model: str
    dtypes: tuple[str, ...]
    baseline: str = "auto"
    tiers: tuple[Tier, ...] = TIERS
    repetitions: dict[Tier, int] = {}
    """How often the first of the kv dtypes is judged again in a tier, each time by other prompts."""

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(target_id(self.model, dtype) for dtype in self.dtypes)

    @property
    def baseline_target(self) -> str:
        return target_id(self.model, self.baseline)


class SuiteTest(NamedTuple):
    """A test of the shipped suites."""

    suite: str
    name: str
    for_candidates: bool
    """Whether it has nothing to say of a baseline."""


@cache
def suite_tests(tier: Tier) -> tuple[SuiteTest, ...]:
    """Return the tests of a tier as their files declare them."""
    return tuple(
        SuiteTest(file.stem.removeprefix("test_"), function.name, not _OF_CANDIDATES.isdisjoint(asked))
        for file in sorted(SUITES.glob("test_*.py"))
        for function in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(function, ast.FunctionDef)
        and f"pytest.mark.kv_{tier}" in map(ast.unparse, function.decorator_list)
        for asked in [{argument.arg for argument in function.args.args}]
    )


class Catalogue(Struct, frozen=True, forbid_unknown_fields=True):
    fault: tuple[Fault, ...]
    control: tuple[Control, ...]


def read_catalogue() -> Catalogue:
    return msgspec.toml.decode(CATALOGUE.read_bytes(), type=Catalogue)


def _exists(suite: str) -> bool:
    return (SUITES / f"test_{suite}.py").is_file()


def target_id(model: str, candidate: str) -> str:
    return f"{model.removeprefix('ref:')}-{candidate}"
