"""Performance: measured where a clock may be trusted, and set beside the baseline's in the same reports.

The engines are scripted; what is proven here is the plugin, not vLLM.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from plugin_project import GATE, engines_started, results

SUITES = Path(__file__).parents[1] / "suites"
MEASURE = (*GATE, "-m", "kv_perf", "-p", "no:randomly", "--kv-engine-arg=seconds=0.01")
FIGURES = {"tokens_per_second", "seconds_to_first_token", "seconds_to_first_token_long"}


@pytest.fixture
def speed(project: pytest.Pytester) -> pytest.Pytester:
    """A repository with the shipped suite of speed, and with its tiers."""
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
    assert set(baseline["measured"]) == set(candidate["measured"]) == FIGURES
    assert all(figure["ratio"] is None for figure in baseline["measured"].values())
    slower = candidate["measured"]["seconds_to_first_token"]
    assert slower["low"] <= slower["value"] <= slower["high"]
    assert slower["rounds"] == 5
    assert slower["ratio"]["low"] <= slower["ratio"]["value"] <= slower["ratio"]["high"]
    assert slower["ratio"]["value"] > 1.5
    assert candidate["measured"]["tokens_per_second"]["ratio"]["value"] < 1
    assert candidate["not_measured"] is None
    result.stdout.fnmatch_lines(
        [
            "what it buys, beside the baseline",
            "  model-fp8  holds 2.00 times the tokens: 200,000, or 24.4 requests of 8,192",
            "    tokens per second: 0.* times: *",
        ]
    )
