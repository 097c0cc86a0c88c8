"""Update mode: kv tests make goldens and judge nothing; all are written by one process, or none.

The engines are scripted; what is proven here is the plugin, not vLLM.
"""

from __future__ import annotations

import re

import pytest
from golden_project import keep_goldens
from golden_update import (
    ALL,
    BASELINE,
    NOTHING_WRITTEN,
    OTHERWISE,
    SHORT,
    TWO_SETS,
    WORKERS,
    add_to_conftest,
    goldens,
    source_of,
    texts,
)
from plugin_project import GATE, OUTPUT_TEST, VERDICT_TEST, engines_started

from pytest_kvcache.golden import sizes

BOTH = (*GATE, SHORT)
LONG = "--kv-max-tokens=160"
"""After the above, for those who must see a loop or give a verdict."""
NEW = "--kv-golden-update=new"
OWN_GOLDEN = """
import pytest

@pytest.mark.kv_sensitive(prompts="smoke", dtypes=["fp8"])
def test_own(kv_golden):
    pass
"""
TOO_LONG = "--kv-max-tokens=70000"
"""Makes goldens that could not be kept."""


@pytest.fixture(autouse=True)
def outside_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


class TestRefreshing:
    @WORKERS
    def test_verdicts_are_skipped_and_their_baselines_goldens_written(
        self, project: pytest.Pytester, workers: tuple[str, ...]
    ) -> None:
        project.makepyfile(VERDICT_TEST + OUTPUT_TEST)
        result = project.runpytest(*BASELINE, ALL, "-rs", *workers)
        result.assert_outcomes(skipped=2, passed=1)
        assert result.ret == 0
        assert engines_started(project) == ["auto"]
        assert texts(project) == ["smoke-24.auto.cpu.json", "smoke-penalised-24.auto.cpu.json"]
        result.stdout.fnmatch_lines(["*refreshed smoke of model-auto; refreshed smoke-penalised of *"])
        result.stdout.fnmatch_lines(["*this test needs no golden*"])
        result.stdout.fnmatch_lines(
            [
                "*= kv goldens: what changes =*",
                "*new*",
                "*= kv goldens =*",
                "written: *smoke-24.auto.cpu.json",
            ]
        )
        assert not (project.path / ".kvcache" / "results.json").exists()

    @WORKERS
    def test_refreshing_without_a_change_touches_no_file(
        self, project: pytest.Pytester, workers: tuple[str, ...]
    ) -> None:
        project.makepyfile(VERDICT_TEST)
        project.runpytest(*BOTH, ALL, *workers)
        before = goldens(project)
        result = project.runpytest(*BOTH, ALL, *workers)
        assert result.ret == 0
        assert before
        assert goldens(project) == before
        result.stdout.fnmatch_lines(["nothing to write*"])

    def test_new_starts_no_engine_for_goldens_that_are_there(self, project: pytest.Pytester) -> None:
        project.makepyfile(TWO_SETS)
        project.runpytest(*BASELINE, NEW, "-k", "plain")
        [plain] = texts(project)
        before = goldens(project)
        result = project.runpytest(*BASELINE, NEW, OTHERWISE, "-rs")
        assert result.ret == 0
        result.stdout.fnmatch_lines(["*smoke of model-auto is left as it is*"])
        assert {name: goldens(project)[name] for name in before} == before
        assert texts(project) == [plain, "smoke-penalised-24.auto.cpu.json"]
        starts = len(engines_started(project))
        assert project.runpytest(*BASELINE, NEW, OTHERWISE).ret == 0
        assert len(engines_started(project)) == starts

    def test_all_shows_what_changes_and_writes_it(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        project.runpytest(*BASELINE, ALL)
        before = goldens(project)
        result = project.runpytest(*BASELINE, ALL, OTHERWISE)
        assert result.ret == 0
        result.stdout.fnmatch_lines(["*other texts*", "*provenance: *other*", "written: *"])
        after = goldens(project)
        assert all(after[name] != before[name] for name in before if name.endswith(".json"))

    @pytest.mark.parametrize("selection", [("-k", "plain"), ("test_one.py",)])
    def test_a_partial_run_touches_nothing_else(
        self, project: pytest.Pytester, selection: tuple[str, ...]
    ) -> None:
        project.makepyfile(
            test_one=source_of("smoke", "plain"), test_two=source_of("smoke-penalised", "penalised")
        )
        project.runpytest(*BASELINE, ALL)
        before = goldens(project)
        assert len(texts(project)) == 2
        project.runpytest(*BASELINE, ALL, OTHERWISE, *selection)
        changed = {name for name, file in goldens(project).items() if before.get(name) != file}
        assert "scripted--model/smoke-24.auto.cpu.json" in changed
        assert not any("penalised" in name for name in changed | (before.keys() - goldens(project).keys()))

    def test_a_candidates_own_golden_is_made_by_the_candidate_alone(self, project: pytest.Pytester) -> None:
        project.makepyfile(OWN_GOLDEN)
        assert project.runpytest(*BOTH, ALL).ret == 0
        assert engines_started(project) == ["fp8_e4m3"]
        assert texts(project) == ["smoke-24.fp8_e4m3.cpu.json"]

    def test_a_golden_that_no_test_needs_any_more_is_not_deleted(self, project: pytest.Pytester) -> None:
        project.makepyfile(TWO_SETS)
        project.runpytest(*BASELINE, ALL)
        before = goldens(project)
        project.makepyfile(OWN_GOLDEN)
        project.runpytest(*BOTH, ALL)
        assert before.items() <= goldens(project).items()

    def test_a_baseline_that_is_read_from_goldens_is_run_to_refresh_them(
        self, project: pytest.Pytester
    ) -> None:
        project.makepyfile(VERDICT_TEST)
        assert project.runpytest(*BOTH, "--kv-baseline=golden", ALL).ret == 0
        assert engines_started(project) == ["auto"]
        assert len(texts(project)) == 2

    def test_what_a_refresh_writes_is_what_a_gate_reads(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        project.runpytest(*BASELINE, ALL, LONG)
        result = project.runpytest(*BOTH, LONG, "--kv-baseline=golden")
        result.assert_outcomes(passed=1)
        assert engines_started(project) == ["auto", "fp8_e4m3"]

    @WORKERS
    def test_a_test_that_is_skipped_by_its_own_mark_asks_for_nothing(
        self, project: pytest.Pytester, workers: tuple[str, ...]
    ) -> None:
        project.makepyfile(TWO_SETS.replace("@pytest", "@pytest.mark.skip\n@pytest", 1))
        result = project.runpytest(*BASELINE, ALL, *workers)
        result.assert_outcomes(skipped=2)
        assert result.ret == 0
        assert texts(project) == ["smoke-penalised-24.auto.cpu.json"]
        result.stdout.fnmatch_lines(["not made: smoke of model-auto, for *test_plain* was skipped"])

    def test_where_all_tests_are_skipped_it_is_red_and_names_them(self, project: pytest.Pytester) -> None:
        project.makepyfile(TWO_SETS.replace("@pytest", "@pytest.mark.skip\n@pytest"))
        result = project.runpytest(*BASELINE, ALL)
        result.stdout.fnmatch_lines([NOTHING_WRITTEN + "was skipped: *test_plain*, *test_penalised*"])
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        assert not (project.path / "golden").exists()

    @pytest.mark.parametrize("fault", ["damaged", "other prompts", "another model"])
    def test_new_is_red_where_it_leaves_what_no_gate_takes(
        self, project: pytest.Pytester, fault: str
    ) -> None:
        project.makepyfile(TWO_SETS)
        [path] = keep_goldens(project, "smoke")
        model = BASELINE[1]
        if fault == "damaged":
            path.write_text("{}")
        elif fault == "another model":
            model = "--kv-models=scripted--model"
        (project.path / "own.jsonl").write_text('{"id": "a", "text": "A"}\n{"id": "b", "text": "B"}\n')
        prompts = ("--kv-prompts=own.jsonl", "--kv-max-tokens=160") if fault == "other prompts" else ()
        before = goldens(project)
        result = project.runpytest("--kv-dtypes=auto", model, NEW, *prompts)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines(
            ["red: left as it is, and no gate takes it: *smoke-160*--kv-golden-update=all *"]
        )
        assert before.items() <= goldens(project).items()
        assert len(texts(project)) == 2

    def test_what_changes_is_shown_before_it_is_written(self, project: pytest.Pytester) -> None:
        add_to_conftest(
            project,
            """
from pytest_kvcache.golden import GoldenDirectory

commit = GoldenDirectory.commit

def told(*arguments, **options):
    print("committing")
    return commit(*arguments, **options)

GoldenDirectory.commit = told
""",
        )
        project.makepyfile(TWO_SETS)
        result = project.runpytest_subprocess(*BASELINE, ALL, "-s")
        result.stdout.fnmatch_lines(["*smoke *: new*", "committing", "written: *"])

    def test_a_secret_in_a_models_name_is_shown_nowhere(self, project: pytest.Pytester) -> None:
        secret = "hf_0123456789abcdef0123456789"
        project.makepyfile(OWN_GOLDEN)
        project.runpytest(
            "--kv-dtypes=fp8", f"--kv-models=scripted/{secret}", SHORT, ALL, "-rs", "--junitxml=junit.xml"
        ).stdout.fnmatch_lines(["*refreshed smoke of ****"])
        reasons = re.findall('refreshed[^<"]*', (project.path / "junit.xml").read_text())
        assert reasons
        assert not any(secret in reason for reason in reasons)

    def test_collecting_only_writes_nothing(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        assert project.runpytest(*BASELINE, ALL, "--collect-only").ret == 0
        assert not engines_started(project)
        assert not (project.path / "golden").exists()
        assert not (project.path / ".kvcache").exists()


class TestRefusing:
    @pytest.mark.parametrize("place", ["own.jsonl", "own.jsonl/below"])
    def test_a_place_where_nothing_can_be_written_is_found_before_engines_start(
        self, project: pytest.Pytester, place: str
    ) -> None:
        project.makepyfile(VERDICT_TEST)
        (project.path / "own.jsonl").touch()
        result = project.runpytest(*BASELINE, ALL, f"--kv-golden-dir={place}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: *own.jsonl*"])
        assert not engines_started(project)

    @pytest.mark.parametrize(
        ("fault", "why"),
        [
            ("script=loop", "*degenerate*"),
            ("script=empty", "*no text*"),
            ("resolves_to=fp8_e4m3", "*quantized*--kv-baseline=golden:bfloat16*"),
        ],
    )
    def test_a_baseline_that_cannot_be_trusted_leaves_all_as_it_was(
        self, project: pytest.Pytester, fault: str, why: str
    ) -> None:
        project.makepyfile(VERDICT_TEST)
        project.runpytest(*BASELINE, ALL, LONG)
        before = goldens(project)
        result = project.runpytest(*BASELINE, ALL, LONG, f"--kv-engine-arg={fault}")
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines([NOTHING_WRITTEN + why])
        assert goldens(project) == before

    def test_in_ci_it_must_be_allowed_by_name(
        self, project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CI", "true")
        project.makepyfile(VERDICT_TEST)
        result = project.runpytest(*BASELINE, ALL)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: goldens are not refreshed in CI*--kv-golden-allow-ci"])
        assert not (project.path / "golden").exists()
        assert project.runpytest(*BASELINE, ALL, "--kv-golden-allow-ci").ret == 0
        assert len(texts(project)) == 2

    @WORKERS
    def test_a_set_whose_golden_could_not_be_kept_is_refused_before_engines_start(
        self, project: pytest.Pytester, workers: tuple[str, ...]
    ) -> None:
        project.makepyfile(VERDICT_TEST)
        result = project.runpytest(*BASELINE, TOO_LONG, ALL, *workers)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        said = result.stdout.str() + result.stderr.str()
        assert "the golden of smoke of model-auto cannot be kept: 32 prompts and texts of up to" in said
        assert engines_started(project) == []

    def test_a_text_that_nobody_reads_is_written_and_said_so(
        self, project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sizes, "READABLE_BYTES", 1000)
        project.makepyfile(TWO_SETS)
        result = project.runpytest(*BASELINE, ALL)
        assert result.ret == 0
        result.stdout.fnmatch_lines(
            ["written: *", "*smoke-24* has * kB, more than a reviewer reads: split *"]
        )

    def test_without_kv_dtypes_it_is_a_usage_error(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        result = project.runpytest(ALL)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: --kv-golden-update*--kv-dtypes*"])

    @pytest.mark.parametrize("option", ["--kv-golden-update", "--kv-golden-update=some"])
    def test_a_value_is_required(self, project: pytest.Pytester, option: str) -> None:
        project.makepyfile(VERDICT_TEST)
        assert project.runpytest(*BASELINE, option).ret == pytest.ExitCode.USAGE_ERROR

    def test_the_ini_file_cannot_ask_for_it(self, project: pytest.Pytester) -> None:
        project.makepyfile(OUTPUT_TEST)
        project.makeini("[pytest]\nkv_golden_update = all\nkv_golden_allow_ci = true\n")
        result = project.runpytest(*GATE)
        result.assert_outcomes(passed=3, warnings=result.parseoutcomes().get("warnings", 0))
        assert not (project.path / "golden").exists()

    def test_a_selection_that_needs_no_golden_is_red(self, project: pytest.Pytester) -> None:
        project.makepyfile(OUTPUT_TEST)
        result = project.runpytest(*BASELINE, ALL)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines([NOTHING_WRITTEN + "no test that was selected needs one*"])
