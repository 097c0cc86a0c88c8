"""``kvcache golden refresh``: what is made anew, from what, and what is left as it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import scripted
from golden_command import (
    HEADLINE,
    NEW,
    OWN,
    change,
    commit,
    commit_outdated,
    contents,
    engines_started,
    kvcache,
    only_line,
    own_set,
)

from pytest_kvcache.cli import _engines, _wanted
from pytest_kvcache.engines import EngineFactory
from pytest_kvcache.golden import GoldenDirectory, GoldenName, read, sizes
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import PromptSet, Sampling

pytestmark = pytest.mark.usefixtures("repository")


def test_new_goldens_are_made_for_every_model_dtype_and_prompt_set(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert kvcache(*NEW, "--kv-dtypes=auto,fp8,fp8_e4m3", "--prompts=own.jsonl,smoke-penalised") == 0
    directory = GoldenDirectory(Path("golden"))
    assert [(name.prompt_set, name.variant) for name in directory.names()] == [
        ("own", "auto"),
        ("own", "fp8_e4m3"),
        ("smoke-penalised", "auto"),
        ("smoke-penalised", "fp8_e4m3"),
    ]
    assert engines_started() == ["auto", "fp8_e4m3"]
    shown = capsys.readouterr()
    assert f"{HEADLINE}: new" in shown.out
    assert f"written: {OWN}" in shown.out
    assert "kvcache: model-fp8_e4m3 generating" in shown.err


def test_a_text_that_nobody_reads_is_written_and_said_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "READABLE_BYTES", 1000)
    assert kvcache(*NEW) == 0
    shown = capsys.readouterr()
    assert f"written: {OWN}" in shown.out
    size = f"{OWN.stat().st_size / 1000:,.0f}"
    assert f"kvcache: {OWN} has {size} kB, more than a reviewer reads: split its prompt set\n" in shown.err


def test_a_refresh_without_a_change_leaves_every_file_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    kvcache(*NEW)
    before = {path: (path.stat().st_mtime_ns, data) for path, data in contents().items()}
    capsys.readouterr()
    assert kvcache("refresh") == 0
    assert {path: (path.stat().st_mtime_ns, data) for path, data in contents().items()} == before
    assert "nothing to write" in capsys.readouterr().out


def test_a_refresh_shows_what_changes_before_it_says_what_it_wrote(
    capsys: pytest.CaptureFixture[str],
) -> None:
    commit_outdated()
    assert kvcache("refresh") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{HEADLINE}: other texts"
    assert any(line.lstrip().startswith("4 of 4") for line in lines)
    assert lines[-1] == f"written: {OWN}"
    assert kvcache("diff") == 0


def test_a_refresh_of_one_file_touches_no_other() -> None:
    commit_outdated()
    other = commit_outdated(own_set("another"))
    untouched = other.read_bytes()
    assert kvcache("refresh", OWN.absolute()) == 0
    assert other.read_bytes() == untouched
    assert kvcache("diff", other) == 1
    assert kvcache("diff", Path("golden/../golden", *OWN.parts[1:])) == 0


def test_a_golden_is_made_anew_from_its_own_prompts_though_their_file_is_gone() -> None:
    path = commit(own_set(repetition_penalty=1.1), "fp8_e4m3", says="hello")
    Path("own.jsonl").unlink()
    before = contents()
    assert kvcache("refresh", path) == 0
    assert contents() == before
    assert engines_started() == ["fp8_e4m3"]


def test_a_shipped_set_is_taken_as_it_is_now_but_for_its_length(capsys: pytest.CaptureFixture[str]) -> None:
    shipped = load_prompt_set("smoke")
    first = replace(shipped.prompts[0], messages=(), text="what it was before")
    path = commit(PromptSet("smoke", (first, *shipped.prompts[1:]), Sampling(max_tokens=20)))
    assert kvcache("diff", path) == 1
    assert f"prompts changed: {first.id}" in capsys.readouterr().out
    assert kvcache("refresh", path) == 0
    assert read(path).prompt_set == replace(shipped, sampling=Sampling(max_tokens=20))


def test_own_prompts_under_a_shipped_sets_name_stay_own() -> None:
    own = own_set("smoke")
    assert _wanted.today(own) == own
    borrowed = replace(own, prompts=(*own.prompts, load_prompt_set("smoke").prompts[0]))
    assert _wanted.today(borrowed) == borrowed
    shorter = replace(own, prompts=load_prompt_set("smoke").prompts[:9])
    assert _wanted.today(shorter).prompts == load_prompt_set("smoke").prompts


@pytest.mark.parametrize("script", ["loop", "empty"])
def test_a_baseline_that_vouches_for_nothing_is_not_blessed(
    script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(own_set(), script=script)
    before = contents()
    assert kvcache("refresh", "--json") == 1
    shown = capsys.readouterr()
    assert contents() == before
    result = json.loads(shown.out)
    assert result["written"] == []
    assert HEADLINE in result["refused"][0]
    assert "kvcache: no golden was written" in shown.err


def test_without_log_probabilities_a_golden_holds_texts_alone_and_stays_so() -> None:
    assert kvcache(*NEW, "--no-logprobs") == 0
    assert read(OWN).scores is None
    assert kvcache("refresh") == 0
    assert read(OWN).scores is None
    assert kvcache(*NEW) == 0
    assert read(OWN).scores is not None
    assert kvcache("refresh", OWN, "--no-logprobs") == 0
    assert read(OWN).scores is None


def test_ci_writes_nothing_unless_it_is_allowed_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CI", "true")
    assert kvcache(*NEW) == 2
    assert "--kv-golden-allow-ci" in only_line(capsys)
    assert not Path("golden").exists()
    assert not engines_started()
    assert kvcache(*NEW, "--kv-golden-allow-ci") == 0
    assert kvcache("diff") == 0


def test_a_golden_that_changes_meanwhile_is_not_overwritten(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(own_set())
    scripted_engines = _engines.engine_factory

    def slow_engines(timeout: float) -> EngineFactory:
        change(OWN, engine_args=scripted.spec(says="theirs").engine_args)
        return scripted_engines(timeout)

    monkeypatch.setattr(_engines, "engine_factory", slow_engines)
    assert kvcache("refresh") == 2
    assert "somebody else has changed it" in capsys.readouterr().err
    assert read(OWN).outputs.spec.arguments() == {"says": "theirs"}


def test_goldens_of_another_platform_are_left_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    commit(own_set())
    change(OWN, {"platform": "cuda"})
    elsewhere = OWN.with_name("own-80.auto.cuda.json")
    assert kvcache("diff") == 0
    assert f"{elsewhere} is of platform cuda" in capsys.readouterr().err
    assert kvcache("refresh", elsewhere) == 2
    assert "leave it out here" in only_line(capsys)
    directory = GoldenDirectory(Path("golden"))
    directory.remove({name: directory.digest(name) or "" for name in names() if name.platform == "cpu"})
    assert kvcache("refresh") == 2


def names() -> tuple[GoldenName, ...]:
    return GoldenDirectory(Path("golden")).names()
