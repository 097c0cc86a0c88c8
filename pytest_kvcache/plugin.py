"""The pytest plugin: options, marker and fixtures. What a run with kv dtypes does is in `run`.

Until a kv test is collected, this imports nothing but pytest and the standard library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_kvcache import markers
from pytest_kvcache.errors import UsageError
from pytest_kvcache.options import add_options, read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kvcache.handle import EngineHandle
    from pytest_kvcache.policy import Limits
    from pytest_kvcache.records import PlannedGoldens, PlannedOutputs, PlannedScores, Verdict
    from pytest_kvcache.run import Run

RUN: pytest.StashKey[Run] = pytest.StashKey()

NOT_ASKED = "no kv dtypes were asked for: give --kv-dtypes=fp8,auto, or set kv_dtypes in the ini file"


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from pytest_kvcache import hooks

    pluginmanager.add_hookspecs(hooks)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers and, where kv dtypes were asked for, the run."""
    for line in markers.HELP:
        config.addinivalue_line("markers", line)
    try:
        settings = read_settings(config)
        if settings.dtypes:
            from pytest_kvcache.run import Run

            config.stash[RUN] = Run(config, settings)
            config.pluginmanager.register(config.stash[RUN], "kvcache-run")
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None


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
    return request.config.stash[RUN].verdict(request.node, vllm_engine.target)
