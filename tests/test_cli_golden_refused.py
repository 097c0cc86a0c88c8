"""``kvcache golden`` says in one line what it cannot do, before an engine starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from golden_command import NEW, OWN, change, commit, engines_started, kvcache, only_line, own_set

pytestmark = pytest.mark.usefixtures("repository")


@pytest.mark.parametrize("action", ["verify", "prune", "diff", "refresh"])
def test_a_directory_that_is_not_there_is_said_so(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert kvcache(action) == 2
    assert "the golden directory golden does not exist: check --kv-golden-dir" in only_line(capsys)
    assert kvcache(action, "--kv-golden-dir=own.jsonl") == 2
    assert "the golden directory own.jsonl is no directory" in only_line(capsys)


@pytest.mark.parametrize("action", ["verify", "diff", "refresh"])
def test_a_directory_without_goldens_is_said_so(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("golden").mkdir()
    assert kvcache(action) == 2
    assert "there is no golden in golden" in only_line(capsys)


@pytest.mark.parametrize("action", ["verify", "diff", "refresh"])
@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("own.jsonl", "own.jsonl is no golden of golden"),
        ("golden/gone-80.auto.cpu.json", "does not exist, and so is no golden"),
        ("golden/\x1b[2J\u202e.json", r"golden/\x1b[2J\u202e.json does not exist"),
    ],
)
def test_a_file_that_is_no_golden_is_named(
    action: str, file: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(own_set())
    capsys.readouterr()
    assert kvcache(action, file) == 2
    assert why in only_line(capsys)


def test_a_set_whose_golden_could_not_be_kept_is_refused_before_it_is_made(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = Path("own.jsonl").read_text().replace('"max_tokens": 80', '"max_tokens": 600000')
    Path("own.jsonl").write_text(lines)
    assert kvcache(*NEW) == 2
    assert (
        "the golden of own of model-auto cannot be kept: 4 prompts and texts of up to 600,000 tokens may "
        "come to 38.4 MB, and 33.6 MB is the most; split the set, or lower its max_tokens"
    ) in only_line(capsys)
    assert engines_started() == []


@pytest.mark.parametrize("action", ["diff", "refresh"])
def test_a_damaged_golden_cannot_be_made_anew_without_saying_of_what(
    action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = commit(own_set())
    path.write_bytes(b"<<<<<<< ours\n" + path.read_bytes())
    capsys.readouterr()
    assert kvcache(action, path) == 2
    assert "--kv-models=MODEL --prompts=own --kv-dtypes=auto" in only_line(capsys)
    assert kvcache(*NEW) == 0
    assert "in place of one that cannot be read" in capsys.readouterr().out
    assert kvcache("verify") == 0


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--kv-models=scripted/model",), "give both"),
        (("--prompts=own.jsonl",), "give both"),
        (("--kv-dtypes=fp8",), "give both"),
        (("golden/x.json", "--prompts=smoke"), "name files"),
        (("--kv-models=scripted/model", "--prompts=smok"), "did you mean smoke"),
        (("--kv-models=scripted/model", "--prompts=gone.jsonl"), "no prompt file 'gone.jsonl'"),
        (("--kv-models=./gone", "--prompts=own.jsonl"), "model directory gone does not exist"),
        (("--kv-models=ref:gone", "--prompts=own.jsonl"), "gone"),
        (("--kv-models=scripted/model", "--prompts=own.jsonl", "--kv-dtypes=fp9"), "unknown kv dtype"),
        (("--kv-models=scripted/model,", "--prompts=own.jsonl"), "empty name"),
        (("--kv-timeout=soon",), "positive number of seconds"),
        (("--kv-timeout=-1",), "positive number of seconds"),
        (("--kv-policy=gone.toml",), "gone.toml"),
    ],
)
def test_a_refresh_that_is_asked_for_wrongly_is_refused(
    arguments: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kvcache("refresh", *arguments) == 2
    assert why in only_line(capsys)
    assert not engines_started()


@pytest.mark.parametrize("action", ["diff", "refresh"])
def test_no_engine_is_given_the_mark_of_a_secret_in_its_place(
    action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = commit(own_set(), hf_overrides={"api_key": "hidden-from-goldens"}, says="hello")
    capsys.readouterr()
    assert kvcache(action) == 2
    line = only_line(capsys)
    assert f"{path}: the engine argument hf_overrides held a secret" in line
    assert "pytest --kv-golden-update=all" in line
    assert not engines_started()


def test_a_model_that_is_gone_is_named(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commit(own_set())
    change(OWN, model=str(repository / "gone"))
    capsys.readouterr()
    assert kvcache("refresh") == 2
    assert "gone does not exist" in only_line(capsys)


def test_a_place_where_nothing_can_be_written_is_found_before_engines_start(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert kvcache(*NEW, "--kv-golden-dir=own.jsonl/below") == 2
    assert "own.jsonl" in only_line(capsys)
    assert not engines_started()
