"""The shipped suites, through the plugin: each sees the symptom that it is named for, and nothing else."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from plugin_project import BROKEN, GATE, VERDICT_TEST, known_bad

SUITES = Path(__file__).parents[1] / "suites"
SMOKE = (*GATE, "-m", "kv_smoke")


@pytest.fixture
def divergence(project: pytest.Pytester) -> pytest.Pytester:
    project.makepyfile((SUITES / "test_divergence.py").read_text(encoding="utf-8"))
    return project


def test_a_candidate_of_the_baselines_opinion_passes(divergence: pytest.Pytester) -> None:
    divergence.runpytest(*SMOKE).assert_outcomes(passed=2, deselected=2)


def test_a_candidate_that_finds_sensible_text_improbable_fails_though_its_own_reads_well(
    divergence: pytest.Pytester,
) -> None:
    result = divergence.runpytest(*SMOKE, "--kv-engine-arg=candidate_delta_nll=0.5")
    result.assert_outcomes(passed=1, failed=1, deselected=2)
    result.stdout.fnmatch_lines(
        ["*delta NLL, in nats per token, is 0.500 * beyond the margin 0.100 (n = 32)*"]
    )


def test_margins_are_those_of_the_policy(divergence: pytest.Pytester) -> None:
    (divergence.path / "policy.toml").write_text("[limits]\ndelta_nll = 0.6\nkld = 1\nsame_top_loss = 0.6\n")
    args = ("--kv-policy=policy.toml", "--kv-engine-arg=candidate_delta_nll=0.5")
    divergence.runpytest(*SMOKE, *args).assert_outcomes(passed=2, deselected=2)


def test_a_declared_divergence_is_an_expected_failure_and_another_is_not(divergence: pytest.Pytester) -> None:
    broken = "--kv-engine-arg=candidate_delta_nll=0.5"
    expected = known_bad(divergence, "delta-nll", "kld", "same-top")
    divergence.runpytest(*SMOKE, broken, expected).assert_outcomes(passed=1, xfailed=1, deselected=2)
    other = known_bad(divergence, "degenerate")
    divergence.runpytest(*SMOKE, broken, other).assert_outcomes(passed=1, failed=1, deselected=2)


KNOWING = "--kv-engine-arg=script=knows"
FORGETFUL = (KNOWING, "--kv-engine-arg=candidate_script=healthy")


def suite(project: pytest.Pytester, name: str) -> pytest.Pytester:
    project.makepyfile((SUITES / f"test_{name}.py").read_text(encoding="utf-8"))
    return project


def suites(project: pytest.Pytester, *names: str) -> pytest.Pytester:
    texts = {f"test_{name}": (SUITES / f"test_{name}.py").read_text(encoding="utf-8") for name in names}
    project.makepyfile(**texts)
    return project


class TestADeclarationThatNamesTests:
    """Where a suite alone finds what the verdict passes."""

    def test_is_met_by_these_alone(self, project: pytest.Pytester) -> None:
        declared = known_bad(project, "recall-lost", tests=["test_multi_turn", "test_multi_turn_full"])
        result = suites(project, "multi_turn", "tasks").runpytest(*SMOKE, *FORGETFUL, declared)
        result.assert_outcomes(passed=2, xfailed=1, failed=1)
        result.stdout.fnmatch_lines(["FAILED *test_tasks[[]model-fp8[]]*"])

    def test_leaves_the_verdict_to_itself(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        result = project.runpytest(*GATE, known_bad(project, "topic-drift", tests=["test_topic"]))
        result.assert_outcomes(passed=1)

    def test_may_name_a_verdicts(self, project: pytest.Pytester) -> None:
        project.makepyfile(VERDICT_TEST)
        declared = known_bad(project, tests=["test_verdict"])
        project.runpytest(*GATE, *BROKEN, declared).assert_outcomes(xfailed=1)
        result = project.runpytest(*GATE, declared)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*but it passes: remove the declaration for this test*"])

    def test_is_noticed_when_one_of_them_passes(self, project: pytest.Pytester) -> None:
        declared = known_bad(project, "recall-lost", tests=["test_multi_turn"])
        result = suite(project, "multi_turn").runpytest(*SMOKE, KNOWING, declared)
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(
            ["model-fp8: declared known-bad (recall-lost) but it passes: remove the declaration for this *"]
        )


def test_empty_outputs_have_the_same_limit_in_both_suites_that_look_for_them(
    project: pytest.Pytester,
) -> None:
    empty = (*SMOKE, "-k", "not short", "--kv-engine-arg=candidate_script=empty")
    lenient = project.path / "policy.toml"
    lenient.write_text("[limits]\nempty_excess = 1.0\nearly_end_excess = 1.0")
    suites(project, "degeneration", "length").runpytest(*empty).assert_outcomes(passed=2, failed=2)
    project.runpytest(*empty, f"--kv-policy={lenient}").assert_outcomes(passed=4)


TASKS = {"tasks": 24, "multi_turn": 12, "structured": 16}


@pytest.mark.parametrize(("name", "prompts"), TASKS.items())
def test_answers_that_the_candidate_alone_lost_fail(
    project: pytest.Pytester, name: str, prompts: int
) -> None:
    result = suite(project, name).runpytest(*SMOKE, *FORGETFUL)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [f"*0 of {prompts} answers are right, the baseline's {prompts}: a loss of 1.00 *"]
    )


@pytest.mark.parametrize("name", TASKS)
def test_answers_that_none_lost_pass(project: pytest.Pytester, name: str) -> None:
    suite(project, name).runpytest(*SMOKE, KNOWING).assert_outcomes(passed=2)


@pytest.mark.parametrize("name", ["tasks", "multi_turn", "structured"])
def test_tasks_that_the_baseline_never_knew_show_nothing_and_fail(
    project: pytest.Pytester, name: str
) -> None:
    result = suite(project, name).runpytest(*SMOKE)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["*the baseline gets right is 0.000*it cannot show a loss of answers; give *"]
    )


def test_needles_that_the_candidate_does_not_find_fail_with_the_lengths_of_their_texts(
    project: pytest.Pytester,
) -> None:
    result = suite(project, "long_context").runpytest(*GATE, "-m", "kv_full", *FORGETFUL)
    result.assert_outcomes(passed=1, failed=1)
    kinds = [
        "needle-800 0 of 6 (baseline 6)",
        "needle-1600 0 of 6 (baseline 6)",
        "needle-3200 0 of 9 (baseline 9)",
    ]
    result.stdout.fnmatch_lines([f"*by kind: {', '.join(kinds)}"])


def test_stops_that_the_candidate_alone_never_reaches_fail(project: pytest.Pytester) -> None:
    args = ("--kv-engine-arg=script=empty", "--kv-engine-arg=candidate_script=healthy")
    result = suite(project, "stopping").runpytest(*SMOKE, *args)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*16 of 16 outputs never reach their stop, the baseline's 0: *"])


def test_stops_that_both_reach_pass_and_ones_that_nobody_reaches_prove_nothing(
    project: pytest.Pytester,
) -> None:
    suite(project, "stopping").runpytest(*SMOKE, "--kv-engine-arg=script=empty").assert_outcomes(passed=2)
    result = project.runpytest(*SMOKE)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["*a loss of stops beyond 0.10 could not be proven: give more texts that come to one*"]
    )


@pytest.mark.parametrize(("tier", "tests"), [("kv_smoke", 1), ("kv_full", 3)])
def test_a_candidate_that_loops_whatever_the_penalty_fails_under_each_of_them(
    project: pytest.Pytester, tier: str, tests: int
) -> None:
    args = (*GATE, "-m", tier, "-k", "not heeded", "--kv-engine-arg=candidate_script=loop")
    outcomes = suite(project, "penalties").runpytest(*args).parseoutcomes()
    assert (outcomes["passed"], outcomes["failed"]) == (tests, tests)


def test_long_texts_that_no_selected_test_reads_are_noted(project: pytest.Pytester) -> None:
    tests = suite(project, "long_context")
    longer = (*GATE, "--kv-context=1000")
    tests.runpytest(*longer, "-m", "kv_full").stdout.no_fnmatch_line("*changed nothing*")
    project.makepyfile((SUITES / "test_stopping.py").read_text(encoding="utf-8"))
    project.runpytest(*longer, "-k", "stopping").stdout.fnmatch_lines(
        ["note: --kv-context=1000 changed nothing*"]
    )


def test_long_texts_may_be_as_long_as_all_engines_of_a_run_serve(project: pytest.Pytester) -> None:
    variant = '[variants.short]\nkv_cache_dtype = "fp8"\nengine_args = { max_model_len = 2000 }'
    (project.path / "policy.toml").write_text(variant)
    given = ("--kv-dtypes=fp8,short", "--kv-context=max", "--kv-engine-arg=max_model_len=4000")
    suite(project, "long_context").runpytest(*GATE, *given, "--kv-policy=policy.toml", "-m", "kv_full")
    sets = project.path.glob(".kvcache/runs/*/engines/*/outputs-*.jsonl")
    kinds = [set(re.findall(r"needle-\d+", file.read_text().partition("\n")[0])) for file in sets]
    assert kinds == 3 * [{f"needle-{length}" for length in (375, 750, 1500)}]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ((), "how many tokens * serves is not known before*"),
        (("--kv-engine-arg=max_model_len=400",), "* serves 400 tokens, too few for texts of 400*"),
    ],
)
def test_a_length_that_no_text_fits_is_refused_where_a_test_reads_long_texts(
    project: pytest.Pytester, given: tuple[str, ...], why: str
) -> None:
    tests = suite(project, "long_context")
    result = tests.runpytest(*GATE, "--kv-context=max", *given, "-m", "kv_full")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --kv-context=max: {why}"])
    result = tests.runpytest(*GATE, "--kv-context=max", *given, "-k", "nothing")
    result.stdout.fnmatch_lines(["red: --kv-dtypes asked for a gate and no kv test ran*"])


def with_all(project: pytest.Pytester) -> pytest.Pytester:
    shutil.copytree(SUITES, project.path / "suites", ignore=shutil.ignore_patterns("perf", "__pycache__"))
    return project


SMOKE_TESTS = {"test_degeneration", "test_stopping", "test_short_answers"}
FULL_TESTS = {f"{name}_full" for name in SMOKE_TESTS}


@pytest.mark.parametrize(
    ("asked", "there", "absent"),
    [
        ("", SMOKE_TESTS, FULL_TESTS),
        ("kv_smoke", SMOKE_TESTS, FULL_TESTS),
        ("not kv_full", SMOKE_TESTS, FULL_TESTS),
        ("kv_smoke and not kv_full", SMOKE_TESTS, FULL_TESTS),
        ("kv_full", FULL_TESTS, SMOKE_TESTS),
        ("kv_smoke or kv_full", SMOKE_TESTS | FULL_TESTS, set()),
    ],
)
def test_a_tier_has_its_own_tests(
    project: pytest.Pytester, asked: str, there: set[str], absent: set[str]
) -> None:
    result = with_all(project).runpytest(*GATE, "-m", asked, "--collect-only", "-q", "suites")
    names = {line.rpartition("::")[2].partition("[")[0] for line in result.outlines if "::" in line}
    assert there <= names
    assert not absent & names


@pytest.mark.parametrize(
    ("named", "advice"),
    [
        (("test_batching.py",), "those found run only with -m kv_full"),
        (("test_batching.py", "-m", "kv_smoke"), "those found run only with -m kv_full"),
        (("test_batching.py", "-m", "not kv_full"), "select some, or leave --kv-dtypes out"),
        (("test_tasks.py", "-k", "nothing"), "select some, or leave --kv-dtypes out"),
    ],
)
def test_a_run_that_left_out_all_tests_for_their_tier_says_how_to_have_them(
    project: pytest.Pytester, named: tuple[str, ...], advice: str
) -> None:
    file, *options = named
    result = with_all(project).runpytest(*GATE, f"suites/{file}", *options)
    result.stdout.fnmatch_lines([f"red: --kv-dtypes asked for a gate and no kv test ran: {advice}"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
