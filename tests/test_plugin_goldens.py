"""Goldens in place of the baseline's engine, and as what a target's output is compared with.

The engines are scripted; what is proven here is the plugin, not vLLM.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from hashlib import sha256
from html import unescape
from typing import Any

import pytest
import scripted
from golden_project import keep_goldens
from plugin_project import BROKEN, GATE, VERDICT_TEST, engines_started, results

from pytest_kvcache import cli
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import Golden

FROM_GOLDEN = (*GATE, "--kv-baseline=golden")
SCORES_TEST = """
import pytest
import pytest_kvcache as kv

@pytest.mark.kv_sensitive(prompts=["smoke", "smoke-penalised"])
def test_scores(kv_scores, kv_baseline_scores):
    assert len(kv_scores) == len(kv_baseline_scores["smoke"].scores) == 32
    kv.assert_divergence_within(kv_scores, kv_baseline_scores, kld=None)
"""
OWN_TEST = """
import pytest

@pytest.mark.kv_sensitive(prompts=["smoke", "smoke-penalised"])
def test_own(kv_outputs, kv_golden):
    golden = kv_golden["smoke"]
    assert [o.token_ids for o in golden.outputs] == [o.token_ids for o in kv_outputs["smoke"]]
    scores, none = kv_golden.scores
    assert len(scores.scores) == 32
    assert none is None
"""


@pytest.fixture
def gate(project: pytest.Pytester) -> pytest.Pytester:
    """A repository with a test that gives a verdict, and the goldens of its baseline."""
    project.makepyfile(VERDICT_TEST)
    keep_goldens(project, "smoke", "smoke-penalised")
    return project


def verdict_of(project: pytest.Pytester) -> Any:
    [verdict] = results(project)["verdicts"]
    return verdict


class TestAsBaseline:
    @pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
    def test_only_the_candidates_engine_starts(self, gate: pytest.Pytester, workers: tuple[str, ...]) -> None:
        gate.makepyfile(VERDICT_TEST + SCORES_TEST)
        result = gate.runpytest(*FROM_GOLDEN, *workers)
        result.assert_outcomes(passed=2)
        assert result.ret == 0
        assert engines_started(gate) == ["fp8_e4m3"]
        verdict = verdict_of(gate)
        assert (verdict["verdict"], verdict["source"], verdict["baseline_id"]) == (
            "pass",
            "golden",
            "model-golden",
        )
        result.stdout.fnmatch_lines(["*model-golden, written by vllm scripted on cpu*"])

    def test_the_header_says_what_is_read_and_what_does_not_run(self, gate: pytest.Pytester) -> None:
        result = gate.runpytest(*FROM_GOLDEN, "--collect-only")
        result.stdout.fnmatch_lines(
            ["kvcache: fp8 against the goldens of auto in *golden (auto itself does not run) on scripted/*"]
        )

    def test_the_same_candidate_is_red_for_the_same_reasons(self, gate: pytest.Pytester) -> None:
        gate.runpytest(*GATE, *BROKEN).assert_outcomes(failed=1)
        two_engines = verdict_of(gate)
        gate.runpytest(*FROM_GOLDEN, *BROKEN).assert_outcomes(failed=1)
        from_golden = verdict_of(gate)
        for name in ("metrics", "reasons", "coverage"):
            assert from_golden[name] == two_engines[name]

    def test_the_dtype_of_the_goldens_runs_where_it_alone_is_asked_for(self, gate: pytest.Pytester) -> None:
        result = gate.runpytest("--kv-dtypes=auto", "--kv-baseline=golden", *GATE[1:])
        result.assert_outcomes(passed=1)
        assert engines_started(gate) == ["auto"]
        assert verdict_of(gate)["id"] == "model-auto"

    def test_outputs_alone_are_read_from_goldens_too(self, gate: pytest.Pytester) -> None:
        gate.makepyfile(
            """
            import pytest

            @pytest.mark.kv_sensitive(prompts="smoke-penalised")
            def test_it(kv_baseline):
                assert len(kv_baseline) > 8
            """
        )
        gate.runpytest(*FROM_GOLDEN).assert_outcomes(passed=1)
        assert engines_started(gate) == []

    def test_what_besides_the_kv_dtype_may_be_the_cause_is_told_in_every_report(
        self, gate: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        elsewhere = {"device": "NVIDIA A100", "attention_backend": "FLASHINFER", "threads": 64}

        def changed(golden: Golden) -> Golden:
            made = golden.outputs.provenance
            made = replace(made, **elsewhere, versions=(("vllm", "0.1"),), enforce_eager=None)  # type: ignore[arg-type]
            return replace(golden, outputs=replace(golden.outputs, provenance=made))

        keep_goldens(gate, "smoke", "smoke-penalised", change=changed)
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(gate.path / "summary"))
        result = gate.runpytest(*FROM_GOLDEN, *BROKEN, "--kv-engine-arg=block_size=32")
        result.assert_outcomes(failed=1)
        threads = len(os.sched_getaffinity(0))
        told = (
            "made otherwise than the candidate: attention_backend FLASHINFER -> SCRIPTED, "
            "block_size 16 -> 32, device NVIDIA A100 -> script, "
            f"threads 64 -> {threads}, vllm 0.1 -> scripted"
        )
        assert verdict_of(gate)["golden"] == f"vllm 0.1 on cpu; {told}"
        for report in (
            " ".join(result.stdout.str().split()),
            unescape((gate.path / ".kvcache" / "report.html").read_text()),
            unescape((gate.path / "summary").read_text()),
        ):
            assert told in report

    def test_a_missing_golden_is_red_in_one_line_and_other_tests_live_on(self, gate: pytest.Pytester) -> None:
        gate.makepyfile(
            VERDICT_TEST
            + VERDICT_TEST.replace('["smoke", "smoke-penalised"]', '"full"').replace("verdict(", "other(", 1)
        )
        result = gate.runpytest(*FROM_GOLDEN)
        result.assert_outcomes(passed=1, failed=1)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines(["*there is no golden of *full*--kv-golden-update=new*"])
        assert "Traceback" not in result.stdout.str()

    def test_a_changed_prompt_set_is_red_with_the_command_to_accept_it(self, gate: pytest.Pytester) -> None:
        prompts = [{"id": load_prompt_set("smoke").prompts[0].id, "text": "One"}, {"id": "b", "text": "Two"}]
        (gate.path / "own.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
        result = gate.runpytest(*FROM_GOLDEN, "--kv-prompts=own.jsonl")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*prompt set smoke is no longer what it was written for*refresh*"])
        assert engines_started(gate) == []

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"kv_cache_quantized": True}, "*were written with a quantized cache*golden:bfloat16*"),
            ({"model_id": "commit:older"}, "*is of another model (commit:older)*refresh it*"),
        ],
    )
    def test_a_golden_that_can_vouch_for_nobody_is_red_with_advice(
        self, gate: pytest.Pytester, changes: dict[str, Any], words: str
    ) -> None:
        def changed(golden: Golden) -> Golden:
            provenance = replace(golden.outputs.provenance, **changes)
            return replace(golden, outputs=replace(golden.outputs, provenance=provenance))

        keep_goldens(gate, "smoke", "smoke-penalised", change=changed)
        result = gate.runpytest(*FROM_GOLDEN)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([words])

    @pytest.mark.parametrize("damage", [b"", b"<<<<<<< ours\n", b'{"schema_version": 1}', b"\xff\xfe"])
    def test_a_damaged_golden_is_red_in_one_line(self, gate: pytest.Pytester, damage: bytes) -> None:
        [path] = (gate.path / "golden").rglob("smoke-[0-9]*.json")
        path.write_bytes(damage)
        result = gate.runpytest(*FROM_GOLDEN)
        result.assert_outcomes(failed=1)
        [reason] = verdict_of(gate)["reasons"]
        assert reason["code"] == "baseline-failed"
        assert path.name in reason["message"]
        assert "Traceback" not in result.stdout.str()


class TestWhereTheyAre:
    def test_the_option_is_relative_to_where_pytest_was_called(self, gate: pytest.Pytester) -> None:
        (gate.path / "golden").rename(gate.path / "elsewhere")
        gate.runpytest(*FROM_GOLDEN).assert_outcomes(failed=1)
        gate.runpytest(*FROM_GOLDEN, "--kv-golden-dir=elsewhere").assert_outcomes(passed=1)

    def test_the_ini_twin_is_relative_to_the_root_directory(
        self, gate: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (gate.path / "golden").rename(gate.path / "elsewhere")
        gate.makeini("[pytest]\nkv_golden_dir = elsewhere\nkv_baseline = golden\n")
        monkeypatch.chdir(gate.mkdir("below"))
        gate.runpytest("..", *GATE, "--kv-report=../.kvcache").assert_outcomes(passed=1)

    def test_a_golden_of_another_dtype_is_asked_for_by_its_name(self, gate: pytest.Pytester) -> None:
        result = gate.runpytest(*GATE, "--kv-baseline=golden:bfloat16")
        result.assert_outcomes(failed=2)
        result.stdout.fnmatch_lines(["*there is no golden of * bfloat16 smoke*"])
        assert {v["baseline_id"] for v in results(gate)["verdicts"]} == {"model-golden-bfloat16"}

    @pytest.mark.parametrize("baseline", ["golden:fp9", "goldn"])
    def test_a_misspelt_baseline_is_a_usage_error(self, gate: pytest.Pytester, baseline: str) -> None:
        result = gate.runpytest(*GATE, f"--kv-baseline={baseline}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: unknown kv dtype*"])

    def test_a_golden_of_no_dtype_is_a_usage_error(self, gate: pytest.Pytester) -> None:
        result = gate.runpytest(*GATE, "--kv-baseline=golden:")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: --kv-baseline=golden: *write golden or golden:DTYPE*"])

    def test_goldens_of_other_engine_arguments_are_said_to_be(self, gate: pytest.Pytester) -> None:
        result = gate.runpytest(*FROM_GOLDEN, "--kv-engine-arg=max_model_len=512", "-n", "2")
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(
            ["note: the golden of smoke by scripted/model was made otherwise*: *max_model_len none -> 512"]
        )

    def test_goldens_whose_chat_template_was_told_something_else_vouch_for_nobody(
        self, gate: pytest.Pytester
    ) -> None:
        (gate.path / "policy.toml").write_text('[chat_template_kwargs."scripted/model"]\nbrief = true\n')
        result = gate.runpytest(*FROM_GOLDEN, "--kv-policy=policy.toml")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            ['*was made with chat_template_kwargs {} and the policy gives {"brief": true}: make it again*']
        )


class TestOwnGoldens:
    def test_a_target_is_held_beside_what_it_once_wrote(self, project: pytest.Pytester) -> None:
        project.makepyfile(OWN_TEST)
        keep_goldens(project, "smoke", "smoke-penalised", spec=scripted.spec("fp8_e4m3"))
        result = project.runpytest(*GATE)
        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines(["*there is no golden of *auto smoke*"])
        assert results(project)["goldens"]["used"] == [
            "scripted--model/smoke-160.fp8_e4m3.cpu.json",
            "scripted--model/smoke-penalised-128.fp8_e4m3.cpu.json",
        ]

    def test_scores_of_sets_that_are_not_scored_are_refused_in_one_line(
        self, project: pytest.Pytester
    ) -> None:
        project.makepyfile(SCORES_TEST.replace('["smoke", "smoke-penalised"]', '"smoke-tasks"'))
        result = project.runpytest(*GATE)
        result.assert_outcomes(errors=2)
        result.stdout.fnmatch_lines(["*smoke-tasks: tasks and penalised sets are not scored*"])


class TestUnused:
    @pytest.fixture
    def with_more(self, gate: pytest.Pytester) -> pytest.Pytester:
        """More goldens than tests ask for, one of them of another model."""
        keep_goldens(gate, "smoke", change=lambda g: renamed(g, "old"))
        keep_goldens(gate, "smoke", spec=scripted.spec(model="other/model"))
        return gate

    def test_a_whole_run_names_them_and_leaves_them(self, with_more: pytest.Pytester) -> None:
        result = with_more.runpytest(*FROM_GOLDEN)
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(["note: no test uses scripted--model/old-160.auto.cpu.json (in *golden)"])
        goldens = results(with_more)["goldens"]
        assert goldens["unused"] == ["scripted--model/old-160.auto.cpu.json"]
        assert goldens["used"] == [
            "scripted--model/smoke-160.auto.cpu.json",
            "scripted--model/smoke-penalised-128.auto.cpu.json",
        ]
        file = with_more.path / "golden/scripted--model/old-160.auto.cpu.json"
        assert goldens["unused_sha256"] == {goldens["unused"][0]: sha256(file.read_bytes()).hexdigest()}

    def test_a_shipped_set_may_be_used_by_a_shipped_suite(self, gate: pytest.Pytester) -> None:
        keep_goldens(gate, "smoke-tasks")
        gate.runpytest(*FROM_GOLDEN)
        assert results(gate)["goldens"]["unused"] == []

    def test_under_xdist_too(self, with_more: pytest.Pytester) -> None:
        with_more.runpytest(*FROM_GOLDEN, "-n", "2")
        assert len(results(with_more)["goldens"]["unused"]) == 1

    def test_a_part_of_the_tests_tells_nothing(self, with_more: pytest.Pytester) -> None:
        more = VERDICT_TEST.replace("def test_verdict(kv_verdict)", "def test_more(kv_outputs)")
        [file] = with_more.path.glob("test_*.py")
        file.write_text(VERDICT_TEST + more)
        one, both = {"passed": 1}, {"passed": 2}
        parts: dict[tuple[str, ...], dict[str, int]] = {
            ("-k", "verdict"): {**one, "deselected": 1},
            (file.name,): both,
            (f"{file.name}::test_verdict",): one,
            ("--ignore=other",): both,
            ("--lf",): both,
            ("--kv-max-tokens=200",): {"passed": 1, "failed": 1},
        }
        for part, outcomes in parts.items():
            with_more.runpytest(*FROM_GOLDEN, *part).assert_outcomes(**outcomes)
            assert results(with_more)["goldens"]["unused"] is None

    def test_nor_does_one_directory_while_tests_beside_it_use_goldens(
        self, with_more: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        [file] = with_more.path.glob("test_*.py")
        for name in ("a", "b"):
            with_more.mkdir(name)
            (with_more.path / name / f"test_{name}.py").write_text(file.read_text())
        file.unlink()
        with_more.runpytest(*FROM_GOLDEN, "a").assert_outcomes(passed=1)
        assert results(with_more)["goldens"]["unused"] is None
        assert cli.main(["golden", "prune", "--delete"]) == 2
        with_more.runpytest(*FROM_GOLDEN, "--pyargs", "a.test_a").assert_outcomes(passed=1)
        assert results(with_more)["goldens"]["unused"] is None
        monkeypatch.chdir("a")
        with_more.runpytest(*FROM_GOLDEN, "--kv-report=../.kvcache").assert_outcomes(passed=1)
        assert results(with_more)["goldens"]["unused"] is None
        with_more.runpytest(*FROM_GOLDEN, "--kv-report=../.kvcache", "..")
        assert len(results(with_more)["goldens"]["unused"]) == 1

    def test_test_paths_say_where_all_tests_are(self, with_more: pytest.Pytester) -> None:
        with_more.makeini("[pytest]\ntestpaths = a b\n")
        [file] = with_more.path.glob("test_*.py")
        for name in ("a", "b"):
            with_more.mkdir(name)
            (with_more.path / name / f"test_{name}.py").write_text(file.read_text())
        unused: dict[tuple[str, ...], bool] = {
            (): True,
            ("a", "b"): True,
            ("a",): False,
            ("-otestpaths=a",): False,
        }
        for arguments, is_known in unused.items():
            with_more.runpytest(*FROM_GOLDEN, *arguments)
            assert (results(with_more)["goldens"]["unused"] is not None) is is_known

    @pytest.mark.parametrize(
        ("file", "source"),
        [
            ("b/conftest.py", "collect_ignore = ['test_b.py']"),
            ("b/test_c.py", "import pytest\npytest.importorskip('no_such_module')"),
        ],
    )
    def test_nor_do_tests_of_which_some_are_ignored_here(
        self, with_more: pytest.Pytester, file: str, source: str
    ) -> None:
        with_more.mkdir("b")
        (with_more.path / file).write_text(source)
        with_more.runpytest(*FROM_GOLDEN, "-n", "2")
        assert results(with_more)["goldens"]["unused"] is None

    def test_nor_do_tests_of_which_a_file_is_broken(self, with_more: pytest.Pytester) -> None:
        with_more.makepyfile(test_broken="import no_such_module")
        with_more.runpytest(*FROM_GOLDEN, "--continue-on-collection-errors").assert_outcomes(
            passed=1, errors=1
        )
        assert results(with_more)["goldens"]["unused"] is None

    def test_a_run_without_goldens_tells_nothing(self, with_more: pytest.Pytester) -> None:
        with_more.runpytest(*GATE).assert_outcomes(passed=1)
        assert results(with_more)["goldens"] == {"used": [], "unused": None, "unused_sha256": None}


def renamed(golden: Golden, name: str) -> Golden:
    outputs = golden.outputs
    return replace(golden, outputs=replace(outputs, prompt_set=replace(outputs.prompt_set, name=name)))
