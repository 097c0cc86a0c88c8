"""A refresh that cannot be finished: nothing is written, the exit status is not 0, and one line says why.

The engines are scripted; what is proven here is the plugin, not vLLM.
"""

from __future__ import annotations

import pytest
from golden_update import (
    ALL,
    BASELINE,
    NOTHING_WRITTEN,
    OTHERWISE,
    TWO_SETS,
    WORKERS,
    add_to_conftest,
    goldens,
    source_of,
    texts,
)
from plugin_project import VERDICT_TEST


@pytest.fixture(autouse=True)
def outside_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


class TestAborted:
    @WORKERS
    def test_an_engine_that_breaks(self, project: pytest.Pytester, workers: tuple[str, ...]) -> None:
        project.makepyfile(VERDICT_TEST)
        result = project.runpytest(*BASELINE, ALL, "--kv-engine-arg=crash_at=scoring", *workers)
        result.assert_outcomes(errors=1)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines([NOTHING_WRITTEN + "1 of 1 tests *test_verdict*died while scoring*"])
        assert "Traceback" not in result.stdout.str()
        assert not goldens(project)

    def test_a_set_that_the_engine_refuses(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST + source_of("full-penalised", "refused"))
        result = project.runpytest(*BASELINE, ALL, "--kv-engine-arg=refuses_prompts=32")
        result.assert_outcomes(skipped=1, errors=1)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines([NOTHING_WRITTEN + "1 of 2 tests *test_refused*scripted refusal*"])
        assert not goldens(project)

    def test_a_killed_worker(self, project: pytest.Pytester) -> None:
        add_to_conftest(
            project,
            """
import os, signal, pytest

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    if "penalised" in item.name:
        os.kill(os.getpid(), signal.SIGKILL)
""",
        )
        project.makepyfile(TWO_SETS)
        result = project.runpytest(*BASELINE, ALL, "-n", "2")
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines([NOTHING_WRITTEN + "1 of 2 tests *test_penalised*did not run*died*"])
        assert not goldens(project)

    @WORKERS
    def test_a_missing_shard(self, project: pytest.Pytester, workers: tuple[str, ...]) -> None:
        add_to_conftest(
            project,
            """
from pytest_kvcache.shards import Shards

put = Shards.put
Shards.put = lambda self, test: put(self, test) if "plain" in test else None
""",
        )
        project.makepyfile(TWO_SETS)
        result = project.runpytest_subprocess(*BASELINE, ALL, *workers)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        # A test that leaves no shard is told from one that its own mark skipped.
        result.stdout.fnmatch_lines([NOTHING_WRITTEN + "*test_penalised*"])
        assert not goldens(project)

    @pytest.mark.parametrize("option", ["-x", "--maxfail=1"])
    def test_a_run_that_stops_at_a_failure(self, project: pytest.Pytester, option: str) -> None:
        project.makepyfile("def test_unrelated(): assert False\n" + TWO_SETS)
        result = project.runpytest(*BASELINE, ALL, option)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines([NOTHING_WRITTEN + "2 of 2 tests *test_plain*did not run*"])
        assert not goldens(project)

    def test_an_unrelated_failure_stops_no_refresh_and_stays_red(self, project: pytest.Pytester) -> None:
        project.makepyfile("def test_unrelated(): assert False\n" + TWO_SETS)
        assert project.runpytest(*BASELINE, ALL).ret == pytest.ExitCode.TESTS_FAILED
        assert len(texts(project)) == 2

    def test_an_interrupt_even_if_all_was_made(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST + "\ndef test_interrupt(): raise KeyboardInterrupt\n")
        result = project.runpytest_subprocess(*BASELINE, ALL)
        assert result.ret == pytest.ExitCode.INTERRUPTED
        result.stdout.fnmatch_lines([NOTHING_WRITTEN + "*interrupted*"])
        assert not goldens(project)

    def test_a_full_disk_leaves_the_old_goldens(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        project.runpytest(*BASELINE, ALL)
        before = goldens(project)
        add_to_conftest(
            project,
            """
import os, pytest

def full(*_):
    raise OSError(28, "No space left on device")

@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish():
    os.fsync = full
""",
        )
        result = project.runpytest_subprocess(*BASELINE, ALL, OTHERWISE)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines([NOTHING_WRITTEN + "*No space left on device*"])
        assert goldens(project) == before

    def test_a_wrong_marker_under_xdist(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST.replace("prompts", "promts"))
        result = project.runpytest(*BASELINE, ALL, "-n", "2")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert not goldens(project)
