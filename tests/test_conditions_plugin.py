"""Serving conditions in a team's own tests: a candidate is held against itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_project import GATE, engines_started, known_bad, results

import pytest_kvcache as kv
from pytest_kvcache.errors import UsageError
from pytest_kvcache.records import PlannedConditions, PlannedScores

TEST = """
import pytest
import pytest_kvcache as kv

@pytest.mark.kv_sensitive(prompts="smoke", conditions=["again"])
def test_again(kv_conditions):
    kv.assert_conditions_alike(kv_conditions)
"""


def test_candidates_are_compared_with_themselves(project: pytest.Pytester) -> None:
    project.makepyfile(TEST)
    project.runpytest(*GATE).assert_outcomes(passed=1)
    assert engines_started(project) == ["auto", "fp8_e4m3"]


def test_a_condition_that_changes_the_scores_fails_with_codes(project: pytest.Pytester) -> None:
    project.makepyfile(TEST)
    result = project.runpytest(*GATE, "--kv-engine-arg=candidate_kept_delta_nll=0.5")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*QualityError: again: the candidate is not proven to be within the margins:*",
            "*delta NLL, in nats per token, is 0.500 * beyond the margin*",
        ]
    )


def test_a_candidate_without_numbers_fails_by_that_and_not_by_a_condition(project: pytest.Pytester) -> None:
    project.makepyfile(TEST)
    result = project.runpytest(*GATE, "--kv-engine-arg=candidate_delta_nll=NaN")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*QualityError: log-probabilities of the candidate at * are not finite*"])


def test_a_declared_divergence_from_the_baseline_excuses_none_from_itself(project: pytest.Pytester) -> None:
    project.makepyfile(TEST)
    differs = "--kv-engine-arg=candidate_kept_delta_nll=0.5"
    declared = known_bad(project, "delta-nll", "kld", "same-top")
    project.runpytest(*GATE, differs, declared).assert_outcomes(failed=1)
    declared = known_bad(project, "conditions-differ")
    project.runpytest(*GATE, differs, declared).assert_outcomes(xfailed=1)


@pytest.mark.parametrize("off", ["false", "False"])
def test_where_prefix_caching_is_off_the_test_skips_and_says_so(project: pytest.Pytester, off: str) -> None:
    project.makepyfile(TEST)
    result = project.runpytest(*GATE, "-rs", f"--kv-engine-arg=enable_prefix_caching={off}")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*vLLM resolved prefix caching off*"])


def test_what_did_not_come_about_is_one_red_line(project: pytest.Pytester) -> None:
    project.makepyfile(TEST)
    result = project.runpytest(*GATE, "--kv-engine-arg=never_caches=true")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*again of smoke: no prompt was read from the prefix cache; give*"])
    assert "Traceback" not in result.stdout.str()


def test_a_name_that_does_not_exist_is_a_usage_error(project: pytest.Pytester) -> None:
    project.makepyfile(TEST.replace('"again"]', '"agian"]'))
    result = project.runpytest(*GATE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_again*no 'agian'; there are batch, again*"])


def test_the_fixture_without_a_condition_is_a_usage_error(project: pytest.Pytester) -> None:
    project.makepyfile(TEST.replace(', conditions=["again"]', ""))
    result = project.runpytest(*GATE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*uses kv_conditions and declares none*"])


def test_a_condition_that_no_fixture_looks_at_is_a_usage_error(project: pytest.Pytester) -> None:
    project.makepyfile(TEST.replace("kv_conditions", "kv_outputs"))
    result = project.runpytest(*GATE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*declares conditions and does not look at them*kv_conditions"])


def test_twins_are_reported_as_engines(project: pytest.Pytester) -> None:
    project.makepyfile(TEST.replace('=["again"]', '={"few": {"max_num_seqs": 2}}').replace("again", "few"))
    project.runpytest(*GATE).assert_outcomes(passed=1)
    assert [engine["label"] for engine in results(project)["engines"]] == [
        "model-auto",
        "model-fp8",
        "model-fp8+few",
    ]
    assert len(engines_started(project)) == 3


def test_a_candidate_follows_each_text_once_per_condition_and_writes_none(project: pytest.Pytester) -> None:
    project.makepyfile(TEST)
    project.runpytest(*GATE).assert_outcomes(passed=1)
    baseline, candidate = results(project)["engines"]
    assert baseline["tokens_generated"] > 0
    assert candidate["tokens_generated"] == 0


@pytest.mark.parametrize("suite", ["prefix_cache", "batching", "chunked_prefill", "preemption", "compiled"])
def test_the_shipped_suites_pass_where_no_condition_matters(project: pytest.Pytester, suite: str) -> None:
    path = Path(__file__).parents[1] / "suites" / f"test_{suite}.py"
    project.makepyfile(path.read_text(encoding="utf-8"))
    result = project.runpytest(*GATE, "--kv-engine-arg=prompt_tokens=300")
    outcomes = result.parseoutcomes()
    assert result.ret == 0
    assert not outcomes.keys() & {"errors", "failed"}
    # Of being compiled and eager the engine is one by itself.
    assert outcomes.get("skipped", 0) == (suite == "compiled")


def test_the_shipped_suite_of_talks_sees_what_is_read_back_wrongly(project: pytest.Pytester) -> None:
    suite = Path(__file__).parents[1] / "suites" / "test_multi_turn.py"
    project.makepyfile(suite.read_text(encoding="utf-8"))
    args = (*GATE, "-m", "kv_full", "-k", "continued")
    project.runpytest(*args).assert_outcomes(passed=1)
    result = project.runpytest(*args, "--kv-engine-arg=candidate_kept_delta_nll=0.5")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*QualityError: continued: the candidate is not proven to be within*"])


@pytest.mark.parametrize("tier", ["kv_smoke", "kv_full"])
def test_talks_of_which_no_turn_is_read_back_from_the_prefix_cache_are_red(
    project: pytest.Pytester, tier: str
) -> None:
    suite = Path(__file__).parents[1] / "suites" / "test_multi_turn.py"
    project.makepyfile(suite.read_text(encoding="utf-8"))
    args = (*GATE, "-m", tier, "-k", "test_multi_turn", "--kv-engine-arg=script=knows")
    project.runpytest(*args).assert_outcomes(passed=2)
    project.runpytest(*args, "--kv-engine-arg=enable_prefix_caching=false").assert_outcomes(passed=2)
    result = project.runpytest(*args, "--kv-engine-arg=never_caches=true")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*model under *: no turn of *-turns was read back from the prefix cache*"])


def test_an_unchanged_second_run_starts_no_engine(project: pytest.Pytester) -> None:
    project.makepyfile(TEST.replace('=["again"]', '=["again", "alone", "continued", "uncached"]'))
    model = project.mkdir("model")
    (model / "config.json").write_text("{}")
    (model / "model.bin").write_bytes(bytes(1000))
    for _ in range(2):
        project.runpytest(GATE[0], "--kv-models=model").assert_outcomes(passed=1)
    assert len(engines_started(project)) == 3


def test_planned_conditions_name_those_there_are() -> None:
    planned = PlannedConditions((("batch", PlannedScores(())), ("again", PlannedScores(()))))
    assert list(planned) == ["batch", "again"]
    with pytest.raises(KeyError, match=r"alone \(conditions of this test: batch, again\)"):
        planned["alone"]


def test_conditions_are_taken_from_the_fixture_and_more_than_the_plain_batch() -> None:
    with pytest.raises(UsageError, match="conditions takes what kv_conditions gives, not dict"):
        kv.assert_conditions_alike({})  # type: ignore[arg-type]
    plain = PlannedConditions((("batch", PlannedScores(())),))
    with pytest.raises(UsageError, match=r"^assert_conditions_alike: give at least one condition besides"):
        kv.assert_conditions_alike(plain)
