"""``kvcache golden verify``: everything that is wrong with goldens is a finding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from golden_command import commit, kvcache, own_set

pytestmark = pytest.mark.usefixtures("repository")


def test_sound_goldens_are_fine(capsys: pytest.CaptureFixture[str]) -> None:
    path = commit(own_set())
    commit(own_set(), "fp8_e4m3")
    assert kvcache("verify") == 0
    assert capsys.readouterr().out == "2 files verified, 0 findings\n"
    assert kvcache("verify", path, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"verified": [str(path)], "findings": []}


def test_everything_that_is_wrong_is_a_finding_of_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    sound, quantized = commit(own_set()), commit(own_set("quantized"), resolves_to="fp8_e4m3")
    edited = commit(own_set("edited"))
    edited.write_text(edited.read_text().replace('"p1"', '"p9"'))
    misnamed = sound.with_name("misnamed.json")
    misnamed.write_bytes(sound.read_bytes())
    orphan = sound.with_name("gone-80.auto.cpu.0123456789ab.xz")
    orphan.touch()
    assert kvcache("verify") == 1
    *findings, summary = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in sorted(findings)] == sorted(
        map(str, (quantized, edited, misnamed, orphan))
    )
    assert summary == "5 files verified, 4 findings"
    assert kvcache("verify", sound) == 0
    assert kvcache("verify", sound, misnamed) == 1


def test_the_policy_says_what_is_degenerate(capsys: pytest.CaptureFixture[str]) -> None:
    path = commit(own_set(), script="loop")
    Path("policy.toml").write_text('[limits."scripted/model"]\nbaseline_degenerate = 1.0\n')
    assert kvcache("verify") == 1
    assert str(path) in capsys.readouterr().out
    assert kvcache("verify", "--kv-policy=policy.toml") == 0
    assert kvcache("refresh", "--kv-policy=policy.toml") == 0
