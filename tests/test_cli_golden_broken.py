"""An engine that breaks under ``kvcache golden`` leaves the goldens as they are, and says why."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import scripted
from golden_command import OWN, change, commit, contents, kvcache, own_set

pytestmark = pytest.mark.usefixtures("repository")
FAILING = scripted.spec(fail_at="generating").engine_args


def test_an_engine_that_breaks_leaves_the_goldens_and_its_log(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(own_set("well"))
    commit(own_set())
    assert not list(repository.glob("temporary/kvcache-*"))
    change(OWN, engine_args=FAILING)
    before = contents()
    assert kvcache("refresh") == 2
    assert contents() == before
    [*_, line] = capsys.readouterr().err.splitlines()
    assert "scripted failure" in line
    [log] = [log for log in repository.glob("temporary/kvcache-*/engines/*/engine.log") if str(log) in line]
    assert log.parents[2].stat().st_mode & 0o777 == 0o700


def test_an_error_has_a_line_of_its_own_below_the_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(own_set())
    change(OWN, engine_args=FAILING)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    capsys.readouterr()
    assert kvcache("diff") == 2
    *progress, line = capsys.readouterr().err.splitlines()
    assert line.startswith("kvcache: engine scripted/model")
    assert "\x1b[K" in "".join(progress)
