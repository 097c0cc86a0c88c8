"""``kvcache golden diff``: what it shows of goldens made anew, and of two files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from golden_command import (
    HEADLINE,
    change,
    commit,
    commit_outdated,
    contents,
    engines_started,
    kvcache,
    own_set,
)

from pytest_kvcache.golden import GoldenDirectory, read

pytestmark = pytest.mark.usefixtures("repository")


def test_a_diff_shows_changes_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    commit_outdated()
    before = contents()
    assert kvcache("diff", "--json") == 1
    [found] = json.loads(capsys.readouterr().out)["changes"]
    assert (found["name"], found["kind"], found["worse"]) == (HEADLINE, "text", False)
    assert contents() == before


def test_two_files_are_compared_without_an_engine(capsys: pytest.CaptureFixture[str]) -> None:
    one = commit(own_set())
    old = Path("old", one.name)
    old.parent.mkdir()
    for file in one.parent.iterdir():
        old.with_name(file.name).write_bytes(file.read_bytes())
    assert kvcache("diff", old, one) == 0
    change(one, revision="0123abcd")
    assert kvcache("diff", old, one) == 1
    assert "made otherwise" in capsys.readouterr().out
    assert not engines_started()


def test_a_directory_stands_for_its_goldens_also_where_two_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = commit_outdated()
    assert kvcache("diff", path.parent, path, "--json") == 1
    assert [found["name"] for found in json.loads(capsys.readouterr().out)["changes"]] == [HEADLINE]
    assert engines_started()


def test_a_diff_says_what_a_refresh_would_refuse(capsys: pytest.CaptureFixture[str]) -> None:
    commit(own_set(), script="loop")
    assert kvcache("diff", "--json") == 1
    shown = capsys.readouterr()
    [refused] = json.loads(shown.out)["refused"]
    assert "are degenerate" in refused
    assert f"kvcache: a refresh would write no golden: {refused}" in shown.err


def test_what_counts_as_worse_is_the_policys_to_say(capsys: pytest.CaptureFixture[str]) -> None:
    old = commit(own_set())
    golden = read(old)
    assert golden.scores is not None
    less_probable = [
        replace(score, logprobs=(np.frombuffer(score.logprobs, "<f4") - np.float32(0.05)).tobytes())
        for score in golden.scores.scores
    ]
    scores = replace(golden.scores, scores=tuple(less_probable))
    [new] = GoldenDirectory(Path("new")).commit([replace(golden, scores=scores)])
    Path("strict.toml").write_text("[limits]\ndelta_nll = 0.01\n")
    assert kvcache("diff", old, new) == 1
    assert "got worse" not in capsys.readouterr().out
    assert kvcache("diff", old, new, "--kv-policy=strict.toml") == 1
    assert "got worse" in capsys.readouterr().out
