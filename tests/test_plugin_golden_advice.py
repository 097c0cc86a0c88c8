"""What a red gate advises about goldens is followed to the letter, and then the gate is green.

The engines are scripted; what is proven here is the plugin, not vLLM.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from pytest_kvcache.golden import GoldenDirectory, name_of, read

OWN_TEST = """
import pytest
import pytest_kvcache as kv

@pytest.mark.kv_sensitive(prompts="own.jsonl")
def test_own(kv_outputs, kv_golden):
    kv.assert_matches_golden(kv_outputs, kv_golden)
"""
SCORES_TEST = """
import pytest

@pytest.mark.kv_sensitive(prompts="own.jsonl")
def test_scores(kv_scores, kv_baseline_scores):
    assert len(kv_scores) == len(kv_baseline_scores) == 4
"""
FP8 = ("--kv-dtypes=fp8", "--kv-models=scripted/model")
GATES = {"own": (OWN_TEST, FP8), "baseline": (SCORES_TEST, (*FP8, "--kv-baseline=golden"))}


def write_prompts(project: pytest.Pytester, word: str) -> None:
    lines = (json.dumps({"id": f"p{i}", "text": f"{word} {i}"}) for i in range(4))
    (project.path / "own.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture(autouse=True)
def outside_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


def change_prompts(project: pytest.Pytester) -> None:
    write_prompts(project, "another")


def drop_log_probabilities(project: pytest.Pytester) -> None:
    directory = GoldenDirectory(project.path / "golden")
    for golden in [read(directory.path(name)) for name in directory.names()]:
        versions = (("vllm", "older"),)  # so that equal texts do not settle it
        made = replace(golden.outputs, provenance=replace(golden.outputs.provenance, versions=versions))
        directory.commit([replace(golden, outputs=made, scores=None, floor=None)])
        assert name_of(golden) in directory.names()


def damage(project: pytest.Pytester) -> None:
    for path in project.path.glob("golden/*/*.json"):
        path.write_text("{}")


def remove(project: pytest.Pytester) -> None:
    for path in project.path.glob("golden/*/*.json"):
        path.unlink()


@pytest.mark.parametrize(
    ("gate", "fault", "words"),
    [
        ("own", change_prompts, "is no longer what it was written for"),
        ("own", drop_log_probabilities, "holds no log-probabilities"),
        ("baseline", drop_log_probabilities, "holds no log-probabilities"),
        ("baseline", damage, "take it back from version control"),
        ("own", remove, "there is no golden of"),
    ],
)
def test_the_advice_makes_the_gate_green(
    project: pytest.Pytester, gate: str, fault: Callable[[pytest.Pytester], None], words: str
) -> None:
    write_prompts(project, "one")
    source, options = GATES[gate]
    project.makepyfile(source)
    assert project.runpytest(*options, "--kv-golden-update=all").ret == 0
    fault(project)
    red = project.runpytest(*options)
    assert red.ret == pytest.ExitCode.TESTS_FAILED
    told = [line for line in red.outlines if words in line]
    assert not any("kvcache golden" in line for line in told)
    [advice] = {option for line in told for option in re.findall(r"--kv-golden-update=\w+", line)}
    assert project.runpytest(*options, advice).ret == 0
    project.runpytest(*options).assert_outcomes(passed=1)
