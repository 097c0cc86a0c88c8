"""Under xdist: engines keep to the devices, none starts twice, other tests go where the user sent them.

The engines are scripted; what is proven here is the plugin, not vLLM.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_project import CONFTEST, GATE, OUTPUT_TEST, VERDICT_TEST, engines_started, results

from pytest_kvcache.scheduling import DISTRIBUTIONS

RECORDING = """
from pathlib import Path

HERE = Path(__file__).parent

def pytest_configure(config):
    worker = getattr(config, "workerinput", {}).get("workerid")
    config.pluginmanager.register(Recording(worker))

class Recording:
    def __init__(self, worker):
        self.worker = worker

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            with (HERE / ("ran" if self.worker else "reported")).open("a") as file:
                file.write(f"{report.nodeid} {self.worker}\\n")
"""

AD_HOC_TEST = """
def test_ad_hoc(vllm_engine):
    assert len(vllm_engine.generate(["Say a."], max_tokens=3)) == 1

def test_ad_hoc_again(vllm_engine):
    assert len(vllm_engine.score([1, 2, 3]).token_ids) == 2
"""

PLAIN_TESTS = """
import pytest

@pytest.mark.parametrize("i", range(6))
def test_plain(i):
    pass
"""

EACH_ONCE = ["auto", "fp8_e4m3"]


@pytest.fixture
def team(project: pytest.Pytester) -> pytest.Pytester:
    """A repository with tests in two files that ask engines for more than is declared, and other tests."""
    project.makeconftest(CONFTEST + RECORDING)
    project.makepyfile(
        test_gate=VERDICT_TEST + AD_HOC_TEST, test_more=OUTPUT_TEST + AD_HOC_TEST, test_plain=PLAIN_TESTS
    )
    return project


def ran(team: pytest.Pytester) -> dict[str, str]:
    """Return the worker of each test."""
    return dict(line.split() for line in (team.path / "ran").read_text().splitlines())


def reported(team: pytest.Pytester) -> list[str]:
    """Return the names of the tests that the one who started pytest was told of, and forget them."""
    file = team.path / "reported"
    lines = file.read_text().splitlines()
    file.unlink()
    return sorted(line.split()[0] for line in lines)


class TestDistribution:
    @pytest.mark.parametrize("dist", DISTRIBUTIONS)
    def test_engines_start_once_and_their_tests_stay_together(self, team: pytest.Pytester, dist: str) -> None:
        team.runpytest(*GATE, "-n", "2", "--dist", dist).assert_outcomes(passed=18)
        assert sorted(engines_started(team)) == EACH_ONCE
        workers = ran(team)
        for target in ("model-auto", "model-fp8"):
            assert len({worker for test, worker in workers.items() if f"[{target}]" in test}) == 1
        reports = results(team)
        assert [v["id"] for v in reports["verdicts"]] == ["model-fp8"]
        assert sorted(e["label"] for e in reports["engines"]) == ["model-auto", "model-fp8"]

    def test_tests_keep_their_names(self, team: pytest.Pytester) -> None:
        team.runpytest(*GATE, "-p", "no:randomly")
        alone = reported(team)
        team.runpytest(*GATE, "-n", "2", "--dist", "loadgroup")
        assert reported(team) == alone

    def test_files_without_engines_stay_whole_under_loadfile(self, team: pytest.Pytester) -> None:
        team.makepyfile(**{f"test_plain_{i}": PLAIN_TESTS for i in range(3)})
        team.runpytest(*GATE, "-n", "3", "--dist", "loadfile").assert_outcomes(passed=36)
        workers = ran(team)
        for i in range(3):
            assert len({w for test, w in workers.items() if test.startswith(f"test_plain_{i}")}) == 1

    def test_each_runs_everything_on_every_worker_and_shares_what_is_declared(
        self, project: pytest.Pytester
    ) -> None:
        project.makepyfile(VERDICT_TEST + OUTPUT_TEST)
        project.runpytest(*GATE, "-n", "2", "--dist", "each").assert_outcomes(passed=8)
        assert sorted(engines_started(project)) == EACH_ONCE

    def test_a_scheduler_of_the_users_own_is_left_alone(self, team: pytest.Pytester) -> None:
        team.makeconftest(
            CONFTEST
            + """
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScheduling
    class Mine(LoadScheduling):
        pass
    return Mine(config, log)
"""
        )
        result = team.runpytest(*GATE, "-n", "2", "-v", "-k", "verdict or outputs or plain")
        result.assert_outcomes(passed=9, deselected=0)
        result.stdout.fnmatch_lines(["scheduling tests via Mine"])
        assert sorted(engines_started(team)) == EACH_ONCE

    def test_an_engine_that_a_fixture_asks_starts_once_too(self, team: pytest.Pytester) -> None:
        team.makepyfile(
            test_gate=VERDICT_TEST,
            test_more=OUTPUT_TEST
            + """
@pytest.fixture
def answer(vllm_engine):
    return vllm_engine.generate(["Say a."], max_tokens=3)

def test_answer(answer):
    assert len(answer) == 1
""",
        )
        team.runpytest(*GATE, "-n", "2").assert_outcomes(passed=12)
        assert sorted(engines_started(team)) == EACH_ONCE

    def test_without_xdist_engines_start_once_too(self, team: pytest.Pytester) -> None:
        team.runpytest(*GATE, "-p", "no:xdist").assert_outcomes(passed=18)
        assert sorted(engines_started(team)) == EACH_ONCE

    def test_with_benchmarks_too(self, team: pytest.Pytester) -> None:
        pytest.importorskip("pytest_benchmark")
        team.makepyfile(test_speed="def test_speed(benchmark):\n    benchmark(len, 'abc')\n")
        team.runpytest(*GATE, "-n", "2", "-W", "ignore").assert_outcomes(passed=19)
        assert sorted(engines_started(team)) == EACH_ONCE

    def test_a_worker_that_dies_takes_nobody_with_it(self, team: pytest.Pytester) -> None:
        once = team.path / "died"
        team.makepyfile(
            test_more=f"""
            import os
            from pathlib import Path

            def test_first(vllm_engine):
                if vllm_engine.spec.kv_cache_dtype == "auto" and not Path({str(once)!r}).exists():
                    Path({str(once)!r}).touch()
                    os._exit(1)
            """
        )
        result = team.runpytest(*GATE, "-n", "2")
        assert result.parseoutcomes()["failed"] == 1
        assert result.parseoutcomes()["passed"] == 12
        assert [v["verdict"] for v in results(team)["verdicts"]] == ["pass"]

    def test_a_worker_that_stops_at_its_first_failure_keeps_nobody_waiting(
        self, team: pytest.Pytester
    ) -> None:
        team.makepyfile(
            test_gate="def test_fails(vllm_engine):\n    assert vllm_engine.target.id != 'model-auto'\n"
            + AD_HOC_TEST,
            test_more=VERDICT_TEST,
        )
        result = team.runpytest(*GATE, "-n", "2", "-x")
        assert result.ret == pytest.ExitCode.INTERRUPTED


class TestNumberOfWorkers:
    @pytest.mark.parametrize("visible", ["0,1,2", "GPU-8932f937,GPU-7a11,MIG-0c/1/0"])
    def test_auto_means_one_for_each_gpu(
        self, project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, visible: str
    ) -> None:
        self.give_gpus(monkeypatch, visible)
        project.makeconftest(CONFTEST + self.ON_GPUS)
        project.makepyfile(VERDICT_TEST + OUTPUT_TEST)
        result = project.runpytest(*GATE, "-n", "auto")
        result.stdout.fnmatch_lines(["3 workers *"])
        result.assert_outcomes(passed=4)
        assert len(set(self.devices_used(project))) == 2

    def test_without_kv_dtypes_auto_is_what_it_always_was(
        self, project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.give_gpus(monkeypatch, "0,1,2")
        project.makeconftest(CONFTEST + "\ndef pytest_xdist_auto_num_workers(config):\n    return 2\n")
        project.makepyfile(PLAIN_TESTS)
        project.runpytest("-n", "auto").stdout.fnmatch_lines(["2 workers *"])

    def test_workers_beyond_the_gpus_start_no_engine(
        self, project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.give_gpus(monkeypatch, "0,1")
        project.makeconftest(CONFTEST + RECORDING + self.ON_GPUS)
        project.makepyfile(test_gate=VERDICT_TEST + AD_HOC_TEST, test_plain=PLAIN_TESTS)
        result = project.runpytest(*GATE, "--kv-models=a/a,b/b", "-n", "4", "--kv-engine-arg=seconds=0.2")
        result.assert_outcomes(passed=16)
        assert len(engines_started(project)) == 4
        assert set(self.devices_used(project)) == {"(0,)", "(1,)"}
        assert len({worker for test, worker in ran(project).items() if "test_gate" in test}) == 2

    def test_engines_of_two_gpus_take_both(
        self, project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.give_gpus(monkeypatch, "0,1")
        project.makeconftest(CONFTEST + self.ON_GPUS)
        project.makepyfile(VERDICT_TEST + OUTPUT_TEST)
        result = project.runpytest(*GATE, "--kv-engine-arg=tensor_parallel_size=2", "-n", "2")
        result.assert_outcomes(passed=4)
        assert set(self.devices_used(project)) == {"(0, 1)"}

    def test_more_gpus_than_there_are_is_one_line(
        self, project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.give_gpus(monkeypatch, "0,1")
        project.makeconftest(CONFTEST + self.ON_GPUS)
        project.makepyfile(VERDICT_TEST)
        result = project.runpytest(*GATE, "--kv-engine-arg=tensor_parallel_size=4", "-n", "2")
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines(["*an engine needs 4 gpus and this machine offers 2*"])
        assert not engines_started(project)

    @pytest.mark.parametrize(("workers", "cores"), [("0", {2}), ("1", {2}), ("2", {1}), ("3", {1})], ids=str)
    def test_cores_are_divided_among_the_engines_that_may_run_at_once(
        self, project: pytest.Pytester, workers: str, cores: set[int]
    ) -> None:
        project.makeconftest(CONFTEST + self.ON_TWO_CORES)
        project.makepyfile(VERDICT_TEST + OUTPUT_TEST)
        project.runpytest(*GATE, "-n", workers).assert_outcomes(passed=4)
        assert {len(used.strip("()").strip(",").split(",")) for used in self.devices_used(project)} == cores

    ON_GPUS = """
from pytest_kvcache.engines import devices
devices.vllm_distribution = lambda: "vllm"
"""
    ON_TWO_CORES = """
from pytest_kvcache.engines import devices
devices.available_devices = lambda kind: ("0", "1") if kind == "cpu" else ()
"""

    def give_gpus(self, monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        monkeypatch.setattr("pytest_kvcache.engines.devices.vllm_distribution", lambda: "vllm")

    def devices_used(self, project: pytest.Pytester) -> list[str]:
        lines = Path(project.path / "starts").read_text().splitlines()
        return [line.split(maxsplit=2)[2] for line in lines]
