"""The suites on outputs and settings, through the plugin: each sees its symptom and passes a healthy twin."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from plugin_project import GATE

SUITES = Path(__file__).parents[1] / "suites"
SMOKE = (*GATE, "-m", "kv_smoke")
ECHO = {"script": "echo", "heeds_penalties": True}
"""A healthy engine that answers what it was asked."""
GERMAN = (
    "Der Hafen lag am Morgen still, und die Boote bewegten sich mit der Flut. Ein Mann ging an der Mauer "
    "entlang und zählte die Möwen, die dort saßen. Er war gekommen, um Fisch für das Gasthaus zu kaufen."
)
ENGLISH = (
    "The harbour lay quiet in the morning, and the boats moved with the tide. A man walked along the wall, "
    "counting the gulls that sat there. He had come to buy fish for the inn, as he did every week."
)
LOST = {"scales_differ": "layer 0 has lost its scales"}
MOJIBAKE = "dâ€™accord, câ€™est trÃ¨s bien, voilÃ  le garÃ§on qui mÃ¨ne sa mÃ¨re Ã  lâ€™Ã©cole du chÃ¢teau."


def runs(project: pytest.Pytester, suite: str, arguments: dict[str, Any], *options: str) -> pytest.RunResult:
    project.makepyfile(**{suite: (SUITES / f"{suite}.py").read_text(encoding="utf-8")})
    asked = [f"--kv-engine-arg={name}={json.dumps(value)}" for name, value in arguments.items()]
    return project.runpytest(*SMOKE, *asked, *options)


def counts(result: pytest.RunResult) -> dict[str, int]:
    others = ("deselected", "warnings")
    return {name: number for name, number in result.parseoutcomes().items() if name not in others}


FAULTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "test_nonsense": ({"candidate_writes": MOJIBAKE}, ["*excess of nonsense is 1.000*"]),
    "test_length": (
        {"ends_after": 64, "candidate_ends_after": 8},
        ["*excess of outputs cut short is 1.000*", "*smoke/*: 8 tokens, the baseline's 64*"],
    ),
    "test_finiteness": ({"candidate_script": "zeros"}, ["*32 of 32 outputs are stuck on token 0*"]),
    "test_settings": (
        {"candidate_reports": {"prefix_caching": False}},
        ["*scripted/model under fp8_e4m3 does not run as it was asked to:*", "*prefix caching: False*"],
    ),
    "test_baseline": (
        {"script": "loop"},
        ["*share of the baseline's outputs that are degenerate is 1.000*beyond the margin 0.500*"],
    ),
}
BOTH_FAIL = ("test_baseline",)
"""The baseline's own test fails as well."""
TESTS = {"test_length": 2}
"""Tests that a suite has in the smoke tier, if not one."""


@pytest.mark.parametrize("suite", FAULTS)
def test_a_suite_fails_on_its_fault(project: pytest.Pytester, suite: str) -> None:
    fault, lines = FAULTS[suite]
    result = runs(project, suite, ECHO | fault)
    tests = TESTS.get(suite, 1)
    assert counts(result) == ({"failed": 2} if suite in BOTH_FAIL else {"passed": tests, "failed": tests})
    result.stdout.fnmatch_lines(lines)


@pytest.mark.parametrize("suite", ["test_nonsense", "test_length", "test_finiteness", "test_settings"])
def test_a_suite_passes_on_the_healthy_twin(project: pytest.Pytester, suite: str) -> None:
    healthy = ECHO | {"ends_after": 64}
    assert counts(runs(project, suite, healthy)) == {"passed": 2 * TESTS.get(suite, 1)}


@pytest.mark.parametrize(("ends_after", "tokens"), [(64, 128), (65, 130)])
def test_short_answers_that_run_away_fail(project: pytest.Pytester, ends_after: int, tokens: int) -> None:
    fault = {"ends_after": ends_after, "candidate_ends_after": 1000}
    result = runs(project, "test_length", ECHO | fault, "-k", "short", f"--kv-max-tokens={tokens}")
    assert counts(result) == {"passed": 1, "failed": 1}
    result.stdout.fnmatch_lines(["*excess of run-away outputs is 1.000*"])


@pytest.mark.parametrize(
    ("ends_after", "tokens"),
    [(1000, 128), (65, 128), (8, 64)],
    ids=["never ends", "ends late", "ends soon but few tokens are left"],
)
def test_short_answers_are_skipped_where_none_beside_the_baselines_could_be_seen_to_run_away(
    project: pytest.Pytester, ends_after: int, tokens: int
) -> None:
    options = ("-rs", "-k", "short", f"--kv-max-tokens={tokens}")
    result = runs(project, "test_length", ECHO | {"ends_after": ends_after}, *options)
    assert counts(result) == {"skipped": 2}
    why = f"a run-away of {tokens} tokens could show beside 0 of the baseline's 16 answers, too few to prove "
    result.stdout.fnmatch_lines([f"SKIPPED *{why}an excess beyond 0.10: give more tokens (--kv-max-tokens)"])


def test_a_baseline_that_knows_its_tasks_is_sound(project: pytest.Pytester) -> None:
    assert counts(runs(project, "test_baseline", {"script": "knows"})) == {"passed": 2}


@pytest.mark.parametrize("suite", ["test_degeneration", "test_nonsense", "test_length", "test_drift"])
def test_a_suite_that_is_given_two_prompts_does_not_pass(project: pytest.Pytester, suite: str) -> None:
    two = '{"id": "a", "kind": "k", "text": "One?"}\n{"id": "b", "kind": "k", "text": "Two?"}\n'
    (project.path / "two.jsonl").write_text(two)
    result = runs(project, suite, ECHO, "-k", "not short", "--kv-prompts=two.jsonl")
    assert counts(result) == {"failed": 4 if suite == "test_drift" else 2}
    result.stdout.fnmatch_lines(["*_excess: of 4 outputs 4 are free of this fault in the baseline*"])


def test_nan_scores_fail(project: pytest.Pytester) -> None:
    result = runs(project, "test_finiteness", {"candidate_delta_nll": float("nan")})
    assert counts(result) == {"passed": 1, "failed": 1}
    result.stdout.fnmatch_lines(["*log-probabilities at * positions are not finite, in 32 of 32 texts*"])


@pytest.mark.parametrize(
    ("fault", "failing", "line"),
    [
        ({}, (), "*4 passed*"),
        ({"candidate_script": "healthy"}, ("test_topic",), "*answers that leave their topic*"),
        (
            {"writes": ENGLISH, "candidate_writes": GERMAN},
            ("test_language", "test_topic"),
            "*excess of answers in another language is*",
        ),
    ],
    ids=["healthy", "topic", "language"],
)
def test_drift_is_told_by_its_kind(
    project: pytest.Pytester, fault: dict[str, Any], failing: Sequence[str], line: str
) -> None:
    result = runs(project, "test_drift", ECHO | fault)
    assert counts(result) == {"passed": 4 - len(failing)} | ({"failed": len(failing)} if failing else {})
    result.stdout.fnmatch_lines([line, *(f"FAILED *::{name}[[]*" for name in failing)])


@pytest.mark.parametrize(
    ("holds", "says", "outcome"),
    [
        (0, {}, {"skipped": 2}),
        (None, {}, {"skipped": 2}),
        (30, {}, {"passed": 1, "skipped": 1}),
        (30, {"reports": LOST}, {"failed": 1, "skipped": 1}),
        (30, {"reports_later": LOST}, {"failed": 1, "skipped": 1}),
    ],
    ids=["none", "unknown", "loaded", "lost", "lost-while-generating"],
)
def test_scales_are_judged_where_a_checkpoint_holds_some_and_the_cache_uses_them(
    project: pytest.Pytester, holds: int | None, says: dict[str, Any], outcome: dict[str, int]
) -> None:
    reports = {"checkpoint_scales": holds, **says.get("reports", {})}
    assert counts(runs(project, "test_scales", says | {"reports": reports})) == outcome


def test_a_checkpoint_without_the_scales_that_its_files_announce_is_skipped_and_says_so(
    project: pytest.Pytester,
) -> None:
    reports = {"checkpoint_scales": 0, "fp8_announced_in": "hf_quant_config.json"}
    result = runs(project, "test_scales", {"reports": reports}, "-rs")
    assert counts(result) == {"skipped": 2}
    told = "though its hf_quant_config.json announces an FP8 kv cache: a layer that needs them takes 1.0"
    result.stdout.fnmatch_lines([f"SKIPPED *: the checkpoint holds no kv scales, {told}"])
