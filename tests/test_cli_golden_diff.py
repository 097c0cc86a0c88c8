"""``kvcache golden diff``: what it shows of goldens made anew, and of two files."""

from __future__ import annotations

import json
from pathlib import Path

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
