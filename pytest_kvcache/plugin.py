"""The pytest plugin: options, marker and fixtures. What a run with kv dtypes does is in `run` and its hooks.

Every pytest session loads this module where the package is installed, so all that only a run with kv dtypes
needs, the package's own records included, is imported when there is one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pytest_kvcache.errors import UsageError
from pytest_kvcache.options import add_options, are_given, asks_for_dtypes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kvcache.handle import EngineHandle
    from pytest_kvcache.policy import Limits
    from pytest_kvcache.records import (
        PlannedConditions,
        PlannedGoldens,
        PlannedOutputs,
        PlannedScores,
        Verdict,
    )
    from pytest_kvcache.run import Run

RUN: pytest.StashKey[Run] = pytest.StashKey()

MARKERS = (
    (
        "kv_sensitive(prompts=..., max_tokens=..., dtypes=..., models=..., conditions=...): the test's "
        "output depends on the kv dtype; its prompt sets are generated whole, once per engine "
        "(pytest-kvcache)"
    ),
    "kv_smoke: decides in minutes; the default tier of the shipped suites (pytest-kvcache)",
    "kv_full: sees more and takes longer; runs where -m asks for it (pytest-kvcache)",
    "kv_perf: measures what a kv dtype gains; runs where -m asks for it (pytest-kvcache)",
)

NOT_ASKED = "no kv dtypes were asked for: give --kv-dtypes=fp8,auto, or set kv_dtypes in the ini file"


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from pytest_kvcache import hooks

    pluginmanager.add_hookspecs(hooks)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers and, where kv dtypes were asked for, the run."""
    for line in MARKERS:
        config.addinivalue_line("markers", line)
    if are_given(config):
        try:
            _begin_run(config)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Have ``-n auto`` mean a worker for each device of engines, if kv dtypes were asked for."""
    if not asks_for_dtypes(config) or "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    from pytest_kvcache.engines.devices import available_devices, device_kind

    return len(available_devices(device_kind()))


@pytest.fixture(scope="session")
def vllm_engine(request: pytest.FixtureRequest) -> Iterator[EngineHandle]:
    """One model under one kv dtype: its stored outputs, and the engine itself where a test needs it.

    Parametrized over ``--kv-models`` and ``--kv-dtypes``. Nothing starts before it is needed.
    """
    run = request.config.stash.get(RUN, None)
    if run is None:
        pytest.skip(NOT_ASKED)
    yield run.handle(request.param)
    run.session.release()


@pytest.fixture
def kv_outputs(request: pytest.FixtureRequest, vllm_engine: EngineHandle) -> PlannedOutputs:
    """What the target wrote for the test's own prompt sets."""
    return request.config.stash[RUN].outputs(request.node, vllm_engine.target)


@pytest.fixture
def kv_baseline(request: pytest.FixtureRequest, vllm_engine: EngineHandle) -> PlannedOutputs:
    """What the target's baseline wrote for the same prompts."""
    return request.config.stash[RUN].outputs(request.node, vllm_engine.target.of_baseline())


@pytest.fixture
def kv_scores(request: pytest.FixtureRequest, vllm_engine: EngineHandle) -> PlannedScores:
    """What the target gives the baseline's texts for those of the test's own prompt sets that are scored."""
    return request.config.stash[RUN].scores(request.node, vllm_engine.target)


@pytest.fixture
def kv_baseline_scores(request: pytest.FixtureRequest, vllm_engine: EngineHandle) -> PlannedScores:
    """What the target's baseline gives the same texts: its own."""
    return request.config.stash[RUN].scores(request.node, vllm_engine.target.of_baseline())


@pytest.fixture
def kv_conditions(request: pytest.FixtureRequest, vllm_engine: EngineHandle) -> PlannedConditions:
    """What the target gives the baseline's texts in a plain batch and under the test's serving conditions.

    A condition that cannot come about here skips the test; one that could and did not is an error.
    """
    from pytest_kvcache.judging import give_conditions

    return give_conditions(request.config.stash[RUN], request.node, vllm_engine.target)


@pytest.fixture
def kv_golden(request: pytest.FixtureRequest, vllm_engine: EngineHandle) -> PlannedGoldens:
    """What the target once wrote for the test's own prompt sets, and what it thinks of those texts today."""
    return request.config.stash[RUN].goldens(request.node, vllm_engine.target)


@pytest.fixture
def kv_limits(request: pytest.FixtureRequest, vllm_engine: EngineHandle) -> Limits:
    """The limits that the policy sets for the target's model."""
    return request.config.stash[RUN].limits(vllm_engine.target)


@pytest.fixture
def kv_verdict(request: pytest.FixtureRequest, vllm_engine: EngineHandle) -> Verdict:
    """The decision on the target from the test's own prompt sets.

    Whatever the test's body says, a verdict other than ``pass`` fails the test, and ``known-bad``
    makes it an expected failure.
    """
    from pytest_kvcache.judging import give_verdict

    return give_verdict(request.config.stash[RUN], request.node, vllm_engine.target)


def _begin_run(config: pytest.Config) -> None:
    """Register the hooks of a run if there is to be one; raise `UsageError` for wrong options."""
    from pytest_kvcache.settings import read_settings

    settings = read_settings(config)
    if not settings.dtypes:
        return
    from pytest_kvcache.collecting import Collecting
    from pytest_kvcache.ending import Ending
    from pytest_kvcache.judging import Judging
    from pytest_kvcache.run import Run
    from pytest_kvcache.scheduling import Scheduling

    run = config.stash[RUN] = Run(config, settings)
    for hooks in (Collecting(run), Scheduling(run), Judging(run), Ending(run)):
        config.pluginmanager.register(hooks, f"kvcache-{type(hooks).__name__.lower()}")
