"""What a red gate advises about goldens is followed to the letter, and then the gate is green.

The engines are scripted; what is proven here is the plugin, not vLLM.
"""

from __future__ import annotations

import json
import re
import shlex
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
VARIANT = """
[variants.small]
kv_cache_dtype = "fp8"
engine_args = {block_size = 32}
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


# The command that a mismatch shows

ACCEPT = "this test's goldens are written anew by: "
HARMFUL = ("--kv-engine-arg=says=other words", "--kv-engine-arg", "candidate_delta_nll=0.5")


def texts(project: pytest.Pytester) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in project.path.glob("golden*/*/*.json")}


def shown_command(result: pytest.RunResult) -> list[str]:
    [line] = {line for line in result.outlines if ACCEPT in line}
    return shlex.split(line.partition(ACCEPT)[2])


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_the_command_of_a_mismatch_accepts_it_and_nothing_else(
    project: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    write_prompts(project, "one")
    directory = project.mkdir("tests of ours")
    (project.path / "own.jsonl").rename(directory / "own.jsonl")
    (directory / "test_own.py").write_text(OWN_TEST)
    longer = OWN_TEST.replace('"own.jsonl"', '"own.jsonl", max_tokens=300')
    (directory / "test_more.py").write_text(SCORES_TEST + longer)
    (project.path / "policy.toml").write_text(VARIANT)
    options = ("--kv-dtypes=small,fp8,auto", "--kv-models=scripted/model", "--kv-policy=policy.toml")
    places = (str(directory), "--kv-golden-dir", "golden of ours", *workers)
    assert project.runpytest(*options, *places, "--kv-golden-update=all").ret == 0
    before = texts(project)
    red = project.runpytest(*options, *places, *HARMFUL, "-k", "test_own.py and small")
    red.assert_outcomes(failed=1)
    red.stdout.fnmatch_lines(["*to accept what it writes now, write anew: scripted--model/own-256.small.*"])
    pytest_, *command = shown_command(red)
    assert (pytest_, command[0]) == ("pytest", "tests of ours/test_own.py::test_own[model-small]")
    refreshed = project.runpytest(*command)
    refreshed.assert_outcomes(skipped=1)
    assert refreshed.ret == 0
    after = texts(project)
    assert [name for name in after if after[name] != before.get(name)] == ["own-256.small.cpu.json"]
    project.runpytest(*options, *places, *HARMFUL, "-k", "test_own.py and small").assert_outcomes(passed=1)


def test_the_command_holds_where_pytest_was_called(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_prompts(project, "one")
    project.makepyfile(OWN_TEST)
    assert project.runpytest(*FP8, "--kv-golden-update=all").ret == 0
    monkeypatch.chdir(project.mkdir("below"))
    _, *command = shown_command(project.runpytest("..", *FP8, *HARMFUL))
    assert command[0] == "../test_the_command_holds_where_pytest_was_called.py::test_own[model-fp8]"
    assert ".." not in command
    assert project.runpytest(*command).ret == 0
    project.runpytest("..", *FP8, *HARMFUL).assert_outcomes(passed=1)
