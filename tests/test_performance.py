"""Performance: measured where a clock may be trusted, and set beside the baseline's in the same reports.

The engines are scripted; what is proven here is the plugin, not vLLM.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from golden_project import keep_goldens
from plugin_project import GATE, VERDICT_TEST, engines_started, results

pytest.importorskip("pytest_benchmark")

SUITES = Path(__file__).parents[1] / "suites"
MEASURE = (*GATE, "-m", "kv_perf", "--kv-engine-arg=seconds=0.01")
EVERYTHING = (*GATE, "-m", "kv_perf or not kv_perf")
QUIET = ("-W", "error::pytest_benchmark.logger.PytestBenchmarkWarning")
FIGURES = ["tokens_per_second", "seconds_to_first_token", "seconds_to_first_token_long"]


@pytest.fixture
def speed(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A repository with the shipped suite of speed, and with its tiers."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    shutil.copytree(SUITES / "perf", project.path / "suites" / "perf")
    shutil.copy(SUITES / "conftest.py", project.path / "suites")
    (project.path / "suites" / "__init__.py").touch()
    return project


def performance(project: pytest.Pytester) -> dict[str, Any]:
    return {entry["id"]: entry for entry in results(project)["performance"]}


def test_speed_is_measured_beside_the_baseline_and_each_engine_starts_once(speed: pytest.Pytester) -> None:
    result = speed.runpytest(*MEASURE, "--kv-engine-arg=candidate_seconds=0.04")
    result.assert_outcomes(passed=6)
    assert result.ret == 0
    assert engines_started(speed) == ["auto", "fp8_e4m3"]
    by_id = performance(speed)
    baseline, candidate = by_id["model-auto"], by_id["model-fp8"]
    assert list(baseline["measured"]) == list(candidate["measured"]) == FIGURES
    assert all(figure["ratio"] is None for figure in baseline["measured"].values())
    assert candidate["measured"]["seconds_to_first_token"]["ratio"]["value"] > 1.5
    assert candidate["measured"]["tokens_per_second"]["ratio"]["value"] < 1
    assert candidate["not_measured"] is None
    result.stdout.fnmatch_lines(
        [
            "what it buys, beside the baseline",
            "  model-fp8  holds 2.00 times the tokens: 200,000, or 24.4 requests of 8,192",
            "    tokens per second: 0.* times: *",
        ]
    )


def test_a_gate_that_measures_too_starts_no_engine_twice(speed: pytest.Pytester) -> None:
    speed.makepyfile(VERDICT_TEST)
    result = speed.runpytest(*EVERYTHING)
    result.assert_outcomes(passed=7)
    assert engines_started(speed) == ["auto", "fp8_e4m3"]
    assert performance(speed)["model-fp8"]["measured"]
    result.stdout.fnmatch_lines(["1 verdict: 1 pass", "what it buys*", "    tokens per second: *"])


def test_ratios_range_over_all_rounds(speed: pytest.Pytester) -> None:
    speed.runpytest(*MEASURE)
    baseline, candidate = (performance(speed)[f"model-{dtype}"]["measured"] for dtype in ("auto", "fp8"))
    for name in FIGURES:
        one, other = candidate[name], baseline[name]
        assert one["rounds"] == 5
        assert one["low"] <= one["value"] <= one["high"]
        assert one["ratio"] == {
            "value": one["value"] / other["value"],
            "low": one["low"] / other["high"],
            "high": one["high"] / other["low"],
        }


def test_tokens_per_second_are_those_of_the_whole_batch(speed: pytest.Pytester) -> None:
    speed.runpytest(*MEASURE, "--benchmark-json=times.json", "-k", "throughput and auto")
    [timed] = json.loads((speed.path / "times.json").read_text())["benchmarks"]
    measured = performance(speed)["model-auto"]["measured"]["tokens_per_second"]
    work = timed["extra_info"]["prompts"] * timed["extra_info"]["tokens"]
    assert work == 32 * 64
    assert measured["low"] == work / timed["stats"]["max"]
    assert measured["high"] == work / timed["stats"]["min"]


def test_nothing_is_measured_unless_asked_for_and_what_caches_hold_is_told_all_the_same(
    speed: pytest.Pytester,
) -> None:
    speed.makepyfile(VERDICT_TEST)
    result = speed.runpytest(*GATE)
    result.assert_outcomes(passed=1, deselected=6)
    assert result.ret == 0
    baseline, candidate = performance(speed)["model-auto"], performance(speed)["model-fp8"]
    assert (baseline["kv_capacity_tokens"], candidate["kv_capacity_tokens"]) == (100_000, 200_000)
    assert (baseline["kv_capacity_ratio"], candidate["kv_capacity_ratio"]) == (None, 2.0)
    assert candidate["concurrency"] == pytest.approx(200_000 / 8192)
    assert (candidate["measured"], candidate["not_measured"]) == ({}, None)
    result.stdout.fnmatch_lines(["  model-fp8  holds 2.00 times the tokens: *"])


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("-n", "1"), "pytest-benchmark takes no times under xdist*"),
        (("--benchmark-disable",), "pytest-benchmark takes no times *--benchmark-disable"),
        (("--benchmark-skip",), "*--benchmark-skip*"),
        (("-p", "no:benchmark"), "pytest-benchmark is not installed"),
    ],
    ids=["xdist", "disabled", "skipped", "not installed"],
)
def test_where_no_clock_may_be_trusted_it_says_not_measured_and_gives_no_number(
    speed: pytest.Pytester, options: tuple[str, ...], why: str
) -> None:
    speed.makepyfile(VERDICT_TEST)
    result = speed.runpytest(*EVERYTHING, *options, *QUIET)
    result.assert_outcomes(passed=1, skipped=6)
    assert result.ret == 0
    assert engines_started(speed) == ["auto", "fp8_e4m3"]
    for entry in performance(speed).values():
        assert entry["measured"] == {}
        assert entry["kv_capacity_tokens"]
        pytest.LineMatcher([entry["not_measured"]]).fnmatch_lines([why])
    result.stdout.fnmatch_lines(["    not measured: *"])


def test_a_gate_that_was_to_measure_and_did_not_is_red_and_starts_no_engine(speed: pytest.Pytester) -> None:
    result = speed.runpytest(*MEASURE, "--benchmark-disable")
    result.assert_outcomes(skipped=6)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert engines_started(speed) == []


def test_what_outputs_of_an_earlier_run_were_written_in_is_known_too(speed: pytest.Pytester) -> None:
    model = speed.path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.bin").write_bytes(bytes(1000))
    speed.makepyfile(VERDICT_TEST)
    own = ("--kv-dtypes=fp8,auto", "--kv-models=model")
    speed.runpytest(*own)
    before = performance(speed)
    (speed.path / "starts").write_text("")
    speed.runpytest(*own).assert_outcomes(passed=1, deselected=6)
    assert engines_started(speed) == []
    assert performance(speed) == before
    assert before["model-fp8"]["kv_capacity_ratio"] == 2.0


def test_a_golden_says_nothing_of_what_a_cache_holds_today(speed: pytest.Pytester) -> None:
    keep_goldens(speed, "smoke", "smoke-penalised")
    speed.makepyfile(VERDICT_TEST)
    result = speed.runpytest("--kv-dtypes=fp8", *GATE[1:], "--kv-baseline=golden")
    result.assert_outcomes(passed=1, deselected=3)
    [entry] = results(speed)["performance"]
    assert (entry["kv_capacity_tokens"], entry["kv_capacity_ratio"]) == (200_000, None)
    result.stdout.no_fnmatch_line("*times the tokens*")


def test_without_the_baselines_tests_there_is_no_ratio(speed: pytest.Pytester) -> None:
    speed.runpytest(*MEASURE, "-k", "first_token and fp8").assert_outcomes(passed=2, deselected=4)
    [entry] = results(speed)["performance"]
    assert [figure["ratio"] for figure in entry["measured"].values()] == [None, None]


def test_a_batch_that_ends_early_is_an_error_and_no_number(speed: pytest.Pytester) -> None:
    result = speed.runpytest(*MEASURE, "--kv-engine-arg=ends_after=32", "-k", "throughput")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*not every output has the 64 tokens asked for: its time says nothing"])
    assert all(entry["measured"] == {} for entry in results(speed)["performance"])


def test_measurements_are_stored_and_compared_with_those_of_an_earlier_run(speed: pytest.Pytester) -> None:
    speed.runpytest(*MEASURE, "--benchmark-autosave").assert_outcomes(passed=6)
    [stored] = speed.path.glob(".benchmarks/*/0001_*.json")
    [_, *_, last] = json.loads(stored.read_text())["benchmarks"]
    assert last["params"] == {"vllm_engine": "model-fp8"}
    assert last["extra_info"]["kv_cache_dtype"] == "fp8_e4m3"
    assert {"model_id", "device", "threads", "versions", "prompts", "tokens"} <= set(last["extra_info"])
    compared = speed.runpytest(*MEASURE, "--benchmark-compare=0001", "--benchmark-compare-fail=median:900%")
    compared.assert_outcomes(passed=6)
    compared.stdout.fnmatch_lines(["test_throughput?model-fp8? (0001_*"])
