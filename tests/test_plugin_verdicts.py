"""What becomes red, green or expected: verdicts, known-bad entries, and gates that judged nothing.

The engines are scripted; what is proven here is the plugin, not vLLM.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_project import BROKEN, GATE, OUTPUT_TEST, VERDICT_TEST, engines_started, known_bad, results


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
        result.stdout.fnmatch_lines(
            ["red: --kv-dtypes asked for a gate and no kv test ran: select some, or leave --kv-dtypes out"]
        )

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
