"""The shipped suites, through the plugin: each sees the symptom that it is named for, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_project import GATE, known_bad

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


@pytest.fixture
def tasks(project: pytest.Pytester) -> pytest.Pytester:
    project.makepyfile((SUITES / "test_tasks.py").read_text(encoding="utf-8"))
    return project


def test_answers_that_the_candidate_alone_lost_fail(tasks: pytest.Pytester) -> None:
    args = ("--kv-engine-arg=script=knows", "--kv-engine-arg=candidate_script=healthy")
    result = tasks.runpytest(*SMOKE, *args)
    result.assert_outcomes(passed=1, failed=1, deselected=2)
    result.stdout.fnmatch_lines(["*0 of 24 answers are right, the baseline's 24: a loss of 1.00 *"])


def test_answers_that_none_lost_pass(tasks: pytest.Pytester) -> None:
    tasks.runpytest(*SMOKE, "--kv-engine-arg=script=knows").assert_outcomes(passed=2, deselected=2)
