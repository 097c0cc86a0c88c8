"""The plugin among others: xdist, JUnit, CI, reports, and what is left when pytest is stopped.

The engines are scripted; what is proven here is the plugin, not vLLM.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from plugin_project import GATE, OUTPUT_TEST, VERDICT_TEST, engines_started, results
from processes import HEEDING_INTERRUPTS

DEGENERATION_TEST = """
import pytest
import pytest_kvcache as kv

@pytest.mark.kv_sensitive(prompts="smoke")
def test_degeneration(kv_outputs, kv_baseline):
    kv.assert_degeneration_within(kv_outputs, kv_baseline)
"""


class TestSurroundings:
    @pytest.mark.parametrize("workers", [1, 2, 3])
    def test_xdist_workers_share_engines_and_the_controller_reports(
        self, project: pytest.Pytester, workers: int
    ) -> None:
        project.makepyfile(VERDICT_TEST + OUTPUT_TEST)
        result = project.runpytest(*GATE, "--kv-models=a/a,b/b", "-n", str(workers))
        result.assert_outcomes(passed=7)
        assert sorted(engines_started(project)) == ["auto", "auto", "fp8_e4m3", "fp8_e4m3"]
        assert [v["id"] for v in results(project)["verdicts"]] == ["a-fp8", "b-fp8"]
        result.stdout.fnmatch_lines(["*kvcache: a-auto loading*", "*2 verdicts: 2 pass*"])

    def test_under_xdist_a_usage_error_is_still_one_line_and_nothing_runs(
        self, project: pytest.Pytester
    ) -> None:
        project.makepyfile(VERDICT_TEST.replace("prompts", "promts") + OUTPUT_TEST)
        result = project.runpytest(*GATE, "-n", "2")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stdout.fnmatch_lines(["ERROR: *promts*kv_sensitive takes*"])
        assert "passed" not in result.stdout.str()

    def test_without_xdist(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        project.runpytest(*GATE, "-p", "no:xdist").assert_outcomes(passed=1)

    def test_junit_carries_the_verdict(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        project.runpytest(*GATE, "--junitxml=junit.xml", "-o", "junit_family=xunit1")
        text = (project.path / "junit.xml").read_text()
        assert 'name="kv_verdict" value="pass"' in text

    @pytest.mark.parametrize(
        ("instructions", "known"),
        [
            ({"candidate_script": "loop"}, 'name="kv_reasons" value="degenerate"'),
            ({"candidate_fail_at": "generating"}, 'name="kv_error" value="EngineError"'),
            ({"candidate_resolves_to": "bfloat16"}, 'name="kv_error" value="UnfitError"'),
        ],
    )
    def test_junit_tells_what_is_bad_from_what_could_not_be_judged(
        self, project: pytest.Pytester, instructions: dict[str, str], known: str
    ) -> None:
        project.makepyfile(DEGENERATION_TEST)
        asked = [f"--kv-engine-arg={name}={value}" for name, value in instructions.items()]
        project.runpytest(*GATE, *asked, "--junitxml=junit.xml", "-o", "junit_family=xunit1")
        assert (project.path / "junit.xml").read_text().count(known) == 1

    def test_the_github_summary_gets_one_table(
        self, project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        summary = project.path / "summary.md"
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
        project.makepyfile(VERDICT_TEST)
        project.runpytest(*GATE)
        assert "scripted/model" in summary.read_text()

    def test_the_report_goes_where_it_was_asked(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        project.runpytest(*GATE, "--kv-report=out")
        assert (project.path / "out" / "results.json").is_file()
        assert not (project.path / ".kvcache").exists()

    def test_collecting_only_starts_and_writes_nothing(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        assert project.runpytest(*GATE, "--collect-only").ret == 0
        assert not engines_started(project)
        assert not (project.path / ".kvcache").exists()

    def test_an_unrelated_suite_loads_nothing_heavy(self, project: pytest.Pytester) -> None:
        project.makeconftest("")
        project.makepyfile(
            """
            import sys

            def test_unrelated():
                heavy = {"numpy", "torch", "vllm", "msgspec", "jinja2", "pytest_kvcache.run"}
                assert not heavy & set(sys.modules)
            """
        )
        project.runpytest_subprocess("-p", "no:benchmark").assert_outcomes(passed=1)

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_a_stopped_pytest_leaves_no_process_behind(
        self, project: pytest.Pytester, how: signal.Signals
    ) -> None:
        project.makepyfile(VERDICT_TEST)
        pid_file = project.path / "pid"
        command = [
            *HEEDING_INTERRUPTS,
            sys.executable,
            "-m",
            "pytest",
            *GATE,
            f"--kv-engine-arg=grandchild={pid_file}",
        ]
        hang = "--kv-engine-arg=hang_at=generating"
        with subprocess.Popen([*command, hang], cwd=project.path, stdout=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 30
            while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(how)
            process.wait(timeout=60)
        grandchild = Path("/proc", pid_file.read_text())
        deadline = time.monotonic() + 15
        while grandchild.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not grandchild.exists()
