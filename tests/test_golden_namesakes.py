"""Two prompt sets of one name: neither takes the other's golden, and that is said before an engine starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from golden_command import kvcache, only_line
from plugin_project import engines_started

ALONE = ("--kv-dtypes=fp8", "--kv-models=scripted/model")
ALL = "--kv-golden-update=all"
OWN_TEST = """
import pytest
import pytest_kvcache as kv

@pytest.mark.kv_sensitive(prompts="own.jsonl")
def test_own(kv_outputs, kv_golden):
    kv.assert_matches_golden(kv_outputs, kv_golden)
"""
CANDIDATES = """
import pytest

@pytest.mark.kv_sensitive(prompts="own.jsonl")
def test_own(kv_outputs, kv_baseline):
    pass
"""


def put(file: Path, *texts: str, ids: str = "") -> None:
    """Write a prompt file, its prompts with ids that begin so, or without."""
    rows = [{"text": text} | ({"id": f"{ids}{i}"} if ids else {}) for i, text in enumerate(texts)]
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def teams(project: pytest.Pytester) -> pytest.Pytester:
    """A repository where two directories have a prompt file of the same name each."""
    for team in "ab":
        put(project.path / team / "own.jsonl", f"{team} one", f"{team} two", ids=team)
        (project.path / team / f"test_{team}.py").write_text(OWN_TEST)
    return project


def goldens(project: pytest.Pytester) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in project.path.glob("golden/*/*")}


@pytest.mark.parametrize("arguments", [(ALL,), (), (ALL, "-n", "2")], ids=["update", "gate", "xdist"])
def test_a_run_of_both_is_refused_and_names_both(teams: pytest.Pytester, arguments: tuple[str, ...]) -> None:
    result = teams.runpytest(*ALONE, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert not engines_started(teams)
    lines = [*result.outlines, *result.errlines]
    [line] = {line for line in lines if line.startswith("ERROR: own.jsonl of ")}
    assert "own.jsonl of a/test_a.py::test_own[model-fp8] and own.jsonl of b/test_b.py::test_own" in line
    assert "another name in the header line" in line


def test_a_part_of_the_tests_does_not_replace_the_others_golden(teams: pytest.Pytester) -> None:
    assert teams.runpytest(*ALONE, ALL, "a").ret == 0
    before, started = goldens(teams), engines_started(teams)
    result = teams.runpytest(*ALONE, ALL, "b")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert goldens(teams) == before
    assert engines_started(teams) == started
    [line] = [line for line in result.errlines if "own-256.fp8_e4m3.cpu.json" in line]
    assert "the golden of another prompt set called own too" in line
    assert "another name in the header line" in line
    assert "delete the golden first" in line


def test_a_gate_does_not_advise_to_replace_another_sets_golden(teams: pytest.Pytester) -> None:
    teams.runpytest(*ALONE, ALL, "a")
    result = teams.runpytest(*ALONE, "b")
    result.stdout.fnmatch_lines(["*the golden of another prompt set called own too*"])
    result.stdout.no_fnmatch_line("*--kv-golden-update=all*")


def test_under_names_of_their_own_both_have_goldens(teams: pytest.Pytester) -> None:
    file = teams.path / "b" / "own.jsonl"
    file.write_text('{"name": "theirs", "sampling": {}}\n' + file.read_text())
    assert teams.runpytest(*ALONE, ALL).ret == 0
    assert sorted(name for name in goldens(teams) if name.endswith("json")) == [
        "own-256.fp8_e4m3.cpu.json",
        "theirs-256.fp8_e4m3.cpu.json",
    ]


def test_sets_of_one_name_may_meet_where_no_golden_is_wanted(teams: pytest.Pytester) -> None:
    for team in "ab":
        (teams.path / team / f"test_{team}.py").write_text(CANDIDATES)
    teams.runpytest(*ALONE).assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("before", "after"),
    [({"ids": "p"}, {"ids": "p"}), ({}, {"ids": "p"})],
    ids=["other texts", "ids for what had none"],
)
def test_a_set_that_changed_takes_the_place_of_its_own_golden(
    project: pytest.Pytester, before: dict[str, str], after: dict[str, str]
) -> None:
    project.makepyfile(OWN_TEST)
    put(project.path / "own.jsonl", "one", "two", **before)
    assert project.runpytest(*ALONE, ALL).ret == 0
    put(project.path / "own.jsonl", "one" if after != before else "three", "four", **after)
    assert project.runpytest(*ALONE, ALL).ret == 0
    assert project.runpytest(*ALONE).ret == 0


def test_prompts_are_not_taken_for_the_same_by_their_lines(project: pytest.Pytester) -> None:
    project.makepyfile(OWN_TEST)
    put(project.path / "own.jsonl", "one", "two")
    project.runpytest(*ALONE, ALL)
    before = goldens(project)
    put(project.path / "own.jsonl", "three", "four")
    assert project.runpytest(*ALONE, ALL).ret == pytest.ExitCode.USAGE_ERROR
    assert goldens(project) == before
    for file in project.path.glob("golden/*/*.json"):
        file.unlink()
    assert project.runpytest(*ALONE, ALL).ret == 0


class TestCommand:
    pytestmark = pytest.mark.usefixtures("repository")
    new = ("refresh", "--kv-models=scripted/model")

    @pytest.fixture(autouse=True)
    def _files(self, repository: Path) -> None:
        for team in "ab":
            put(repository / team / "own.jsonl", f"{team} one", f"{team} two", ids=team)

    def test_two_files_of_one_name_are_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert kvcache(*self.new, "--prompts=a/own.jsonl,b/own.jsonl") == 2
        assert "a/own.jsonl and b/own.jsonl are different prompt sets that are both called own" in only_line(
            capsys
        )
        assert not Path("starts").exists()

    def test_one_file_named_twice_is_one_set(self) -> None:
        assert kvcache(*self.new, "--prompts=a/own.jsonl,./a/own.jsonl") == 0
        assert kvcache("refresh") == 0

    def test_another_sets_golden_is_not_replaced(self, capsys: pytest.CaptureFixture[str]) -> None:
        kvcache(*self.new, "--prompts=a/own.jsonl")
        [path] = Path("golden").glob("*/*.json")
        before = path.read_bytes()
        capsys.readouterr()
        assert kvcache(*self.new, "--prompts=b/own.jsonl") == 2
        assert "another prompt set called own too" in only_line(capsys)
        assert path.read_bytes() == before
