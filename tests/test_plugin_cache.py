"""The generation cache as a user meets it. The engines are scripted; what is proven here is the plugin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plugin_project import BROKEN, OUTPUT_TEST, VERDICT_TEST, engines_started, known_bad, results

GATE = ("--kv-dtypes=fp8,auto", "--kv-models=model")
BOTH = ["auto", "fp8_e4m3"]


@pytest.fixture
def gate(project: pytest.Pytester) -> pytest.Pytester:
    """A repository with a model of its own and a test that gives a verdict on it."""
    model = project.path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.bin").write_bytes(bytes(1000))
    project.makepyfile(VERDICT_TEST)
    return project


def started(project: pytest.Pytester) -> list[str]:
    """Return the kv dtypes of the engines that were started since this was asked last."""
    dtypes = engines_started(project)
    (project.path / "starts").write_text("")
    return dtypes


def verdict_of(project: pytest.Pytester) -> Any:
    [verdict] = results(project)["verdicts"]
    return verdict


def kept(directory: Path) -> list[Path]:
    return sorted(directory.glob("generations/*/*"))


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_an_unchanged_second_run_starts_no_engine_and_says_so(
    gate: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    gate.makepyfile(VERDICT_TEST + OUTPUT_TEST)
    first = gate.runpytest(*GATE, *workers)
    first.assert_outcomes(passed=4)
    first.stdout.no_fnmatch_line("*earlier run*")
    before = verdict_of(gate)
    assert (before["source"], sorted(started(gate))) == ("fresh", BOTH)
    second = gate.runpytest(*GATE, *workers)
    second.assert_outcomes(passed=4)
    assert second.ret == 0
    assert started(gate) == []
    assert verdict_of(gate) == before | {"source": "cached"}
    assert results(gate)["engines"] == []
    second.stdout.fnmatch_lines(["1 of 1 verdict rests on outputs of an earlier run (--kv-no-cache*"])


@pytest.mark.parametrize(
    "change",
    ["--kv-engine-arg=max_num_seqs=8", "--kv-max-tokens=70", "--kv-baseline=bfloat16"],
)
def test_what_is_asked_otherwise_is_made_anew(gate: pytest.Pytester, change: str) -> None:
    gate.runpytest(*GATE)
    started(gate)
    gate.runpytest("--kv-dtypes=fp8", GATE[1], change)
    assert started(gate)
    gate.runpytest("--kv-dtypes=fp8", GATE[1], change)
    assert started(gate) == []


def test_a_changed_model_is_made_anew(gate: pytest.Pytester) -> None:
    gate.runpytest(*GATE)
    started(gate)
    (gate.path / "model" / "model.bin").write_bytes(bytes(999))
    gate.runpytest(*GATE)
    assert (verdict_of(gate)["source"], started(gate)) == ("fresh", BOTH)


def test_a_full_run_after_a_partial_one_makes_the_rest(gate: pytest.Pytester) -> None:
    gate.makepyfile(VERDICT_TEST + OUTPUT_TEST)
    gate.runpytest(*GATE, "-k", "outputs and fp8").assert_outcomes(passed=1, deselected=3)
    assert started(gate) == ["fp8_e4m3"]
    gate.runpytest(*GATE).assert_outcomes(passed=4)
    assert (verdict_of(gate)["source"], started(gate)) == ("cached", BOTH)


def test_without_the_cache_nothing_is_taken_and_nothing_kept(gate: pytest.Pytester) -> None:
    gate.runpytest(*GATE, "--kv-no-cache")
    assert kept(gate.path / "cache") == []
    gate.runpytest(*GATE)
    started(gate)
    gate.runpytest(*GATE, "--kv-no-cache")
    assert (verdict_of(gate)["source"], started(gate)) == ("fresh", BOTH)


def test_the_ini_file_can_say_so_and_the_command_line_wins(gate: pytest.Pytester) -> None:
    gate.makeini("[pytest]\nkv_no_cache = true\nkv_cache_dir = ours")
    gate.runpytest(*GATE)
    assert kept(gate.path / "ours") == []
    gate.runpytest(*GATE, "--kv-cache-dir=mine")
    assert kept(gate.path / "mine")
    gate.makeini("[pytest]\nkv_cache_dir = ours")
    gate.runpytest(*GATE)
    assert kept(gate.path / "ours")
    assert not kept(gate.path / "cache")


def test_ci_runs_every_engine_unless_told_otherwise(
    gate: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.runpytest(*GATE)
    started(gate)
    monkeypatch.setenv("CI", "true")
    gate.makeini("[pytest]\nkv_cache_dir = cache")
    gate.runpytest(*GATE)
    assert (verdict_of(gate)["source"], started(gate)) == ("fresh", BOTH)
    gate.runpytest(*GATE, "--kv-cache-dir=cache")
    assert (verdict_of(gate)["source"], started(gate)) == ("cached", [])


def test_a_set_that_was_preempted_when_it_was_written_is_named_again(gate: pytest.Pytester) -> None:
    notes = []
    for expected in (BOTH, []):
        gate.runpytest(*GATE, "--kv-engine-arg=preempts=3").assert_outcomes(passed=1)
        assert sorted(started(gate)) == expected
        notes.append(sorted(results(gate)["notes"]))
    assert notes[0] == notes[1]
    assert [note.split(":")[0] for note in notes[0]] == [
        f"{engine} preempted 3 times while it wrote {name}"
        for engine in ("model-auto", "model-fp8")
        for name in ("smoke-penalised", "smoke")
    ]


@pytest.mark.parametrize("tests", [(), ("test_verdict",)], ids=["of-all", "of-one-test"])
def test_a_known_failure_is_seen_again(gate: pytest.Pytester, tests: tuple[str, ...]) -> None:
    declared = known_bad(gate, model="model", tests=tests)
    for _ in range(2):
        gate.runpytest(*GATE, *BROKEN, declared).assert_outcomes(xfailed=1)
        assert (verdict_of(gate)["source"], started(gate)) == ("fresh", BOTH)
    gate.runpytest(*GATE, *BROKEN).assert_outcomes(failed=1)
    assert (verdict_of(gate)["source"], started(gate)) == ("cached", [])


def test_a_golden_is_made_of_what_engines_give_now(gate: pytest.Pytester) -> None:
    gate.runpytest(*GATE)
    started(gate)
    assert gate.runpytest(*GATE, "--kv-golden-update=all").ret == 0
    assert started(gate) == ["auto"]


def test_a_candidate_beside_a_golden_may_be_cached_and_its_verdict_still_names_the_golden(
    gate: pytest.Pytester,
) -> None:
    gate.runpytest(*GATE, "--kv-golden-update=all")
    for engines in (["fp8_e4m3"], []):
        started(gate)
        assert gate.runpytest(*GATE, "--kv-baseline=golden").ret == 0
        assert (verdict_of(gate)["source"], started(gate)) == ("golden", engines)


def test_engines_of_a_stranger_are_not_cached(gate: pytest.Pytester) -> None:
    conftest = gate.path / "conftest.py"
    factory = "child_engine_factory(timeout, scripted.COMMAND)"
    text = conftest.read_text()
    conftest.write_text(text.replace(factory, f"lambda *arguments: {factory}(*arguments)"))
    for _ in range(2):
        gate.runpytest(*GATE)
        assert (verdict_of(gate)["source"], started(gate)) == ("fresh", BOTH)
    assert kept(gate.path / "cache") == []


def test_what_is_damaged_is_made_anew_with_a_note(gate: pytest.Pytester) -> None:
    gate.runpytest(*GATE)
    started(gate)
    for file in kept(gate.path / "cache"):
        file.unlink()
        file.write_text("damaged")
    result = gate.runpytest(*GATE)
    result.assert_outcomes(passed=1)
    assert (verdict_of(gate)["source"], started(gate)) == ("fresh", BOTH)
    assert str(result.stdout).count("note: damaged files in the generation cache were removed") == 2


def test_two_runs_at_once_come_to_the_same_verdict(gate: pytest.Pytester) -> None:
    command = [sys.executable, "-m", "pytest", "-q", *GATE, "-p", "no:cacheprovider"]
    runs = [
        subprocess.Popen([*command, f"--kv-report=report-{n}"], cwd=gate.path, stdout=subprocess.DEVNULL)
        for n in range(2)
    ]
    assert [run.wait() for run in runs] == [0, 0]
    started(gate)
    assert gate.runpytest(*GATE).ret == 0
    assert (verdict_of(gate)["source"], started(gate)) == ("cached", [])
