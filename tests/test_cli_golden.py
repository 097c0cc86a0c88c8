"""``kvcache golden``: what each action says, writes and returns. Its engine is scripted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import report_samples
import scripted

from pytest_kvcache import cli
from pytest_kvcache.cli import _engines, _wanted
from pytest_kvcache.engines import EngineFactory
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.golden import GoldenDirectory, GoldenName, read
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import EngineSpec, Golden, PromptSet, Sampling
from pytest_kvcache.refresh import Want
from pytest_kvcache.report import Goldens, write_results

NEW = ("refresh", "--kv-models=scripted/model", "--prompts=own.jsonl")
OWN = Path("golden/scripted--model/own-80.auto.cpu.json")
FAILING = scripted.spec(fail_at="generating").engine_args
HEADLINE = "scripted--model auto own (80 tokens, cpu)"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A team's repository with prompts of its own, outside CI, whose engines are scripted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(_engines, "engine_factory", scripted_engines)
    monkeypatch.setenv("SCRIPTED_ENGINE_STARTS", str(tmp_path / "starts"))
    # Run stores and device locks of its own: nothing else may leave traces there, or be waited for.
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    lines = [{"sampling": {"max_tokens": 80}}, *({"id": f"p{i}", "text": f"text {i}"} for i in range(4))]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def scripted_engines(timeout: float) -> EngineFactory:
    return child_engine_factory(timeout, scripted.COMMAND)


def kvcache(*arguments: str | Path) -> int:
    return cli.main(["golden", *map(str, arguments)])


def engines_started() -> list[str]:
    starts = Path("starts")
    return [line.split()[1] for line in starts.read_text().splitlines()] if starts.exists() else []


def own_set(name: str = "own", **sampling: Any) -> PromptSet:
    return PromptSet(name, load_prompt_set("own.jsonl").prompts, Sampling(**{"max_tokens": 80, **sampling}))


def commit(prompt_set: PromptSet, dtype: str = "auto", **engine_args: Any) -> Path:
    """Put a golden there that an engine with these instructions has written; return its file."""
    [path] = GoldenDirectory(Path("golden")).commit(
        [written(scripted.spec(dtype, **engine_args), prompt_set)]
    )
    Path("starts").unlink(missing_ok=True)
    return path


@cache
def written(spec: EngineSpec, prompt_set: PromptSet) -> Golden:
    want = Want(scripted.target(spec, spec), prompt_set, is_baseline=False)
    [(_, golden)] = _engines.make_goldens([want], 30.0)
    return golden


def change(path: Path, provenance: dict[str, Any] | None = None, **spec: Any) -> None:
    """Write a golden again with another spec or provenance."""
    golden = read(path)
    outputs = replace(
        golden.outputs,
        spec=replace(golden.outputs.spec, **spec),
        provenance=replace(golden.outputs.provenance, **(provenance or {})),
    )
    GoldenDirectory(Path("golden")).commit([replace(golden, outputs=outputs)])


def commit_outdated(prompt_set: PromptSet | None = None) -> Path:
    """Put a golden there whose engine writes otherwise today; return its file."""
    path = commit(prompt_set or own_set())
    change(path, engine_args=scripted.spec(says="other").engine_args)
    return path


def contents() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path("golden").rglob("*") if path.is_file()}


# refresh


def test_new_goldens_are_made_for_every_model_dtype_and_prompt_set(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert kvcache(*NEW, "--kv-dtypes=auto,fp8,fp8_e4m3", "--prompts=own.jsonl,smoke-tasks") == 0
    directory = GoldenDirectory(Path("golden"))
    assert [(name.prompt_set, name.variant) for name in directory.names()] == [
        ("own", "auto"),
        ("own", "fp8_e4m3"),
        ("smoke-tasks", "auto"),
        ("smoke-tasks", "fp8_e4m3"),
    ]
    assert engines_started() == ["auto", "fp8_e4m3"]
    shown = capsys.readouterr()
    assert f"{HEADLINE}: new" in shown.out
    assert f"written: {OWN}" in shown.out
    assert "kvcache: model-fp8_e4m3 generating" in shown.err


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


def test_the_policy_says_what_is_degenerate(capsys: pytest.CaptureFixture[str]) -> None:
    path = commit(own_set(), script="loop")
    Path("policy.toml").write_text('[limits."scripted/model"]\nbaseline_degenerate = 1.0\n')
    assert kvcache("verify") == 1
    assert str(path) in capsys.readouterr().out
    assert kvcache("verify", "--kv-policy=policy.toml") == 0
    assert kvcache("refresh", "--kv-policy=policy.toml") == 0


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
    GoldenDirectory(Path("golden")).remove([name for name in names() if name.platform == "cpu"])
    assert kvcache("refresh") == 2


def names() -> tuple[GoldenName, ...]:
    return GoldenDirectory(Path("golden")).names()


# diff


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


# verify


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


# prune


def write_run(used: tuple[str, ...], unused: tuple[str, ...] | None) -> None:
    results = report_samples.results()
    directory = Path(".kvcache")
    directory.mkdir(exist_ok=True)
    write_results(directory, replace(results, goldens=Goldens(used, unused)))


def test_what_the_last_run_did_not_use_is_deleted_when_told_to(capsys: pytest.CaptureFixture[str]) -> None:
    used, unused = commit(own_set()), commit(own_set("unused"))
    leftover = used.with_name(f".{used.name}.kv-tmp")
    leftover.touch()
    before = contents()
    relative = [path.relative_to("golden").as_posix() for path in (used, unused)]
    write_run((relative[0],), (relative[1], "scripted--model/long-gone-80.auto.cpu.json"))
    assert kvcache("prune") == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [f"unused: {unused}", f"unused: {leftover}"]
    assert "--delete" in shown.err
    assert contents() == before
    assert kvcache("prune", "--delete", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"unused": [str(unused), str(leftover)], "deleted": True}
    assert sorted(path.suffix for path in contents()) == [".json", ".xz"]
    assert used.exists()
    assert kvcache("prune", "--results=.kvcache/results.json") == 0


def test_a_run_with_goldens_of_another_directory_is_not_believed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = commit(own_set())
    write_run(("scripted--model/elsewhere-80.auto.cpu.json",), (path.relative_to("golden").as_posix(),))
    capsys.readouterr()
    assert kvcache("prune", "--delete") == 2
    assert "used scripted--model/elsewhere-80.auto.cpu.json, not in golden" in only_line(capsys)
    assert path.exists()


@pytest.mark.parametrize(
    ("used", "why"), [(("something",), "left tests out"), ((), "read no goldens")], ids=["partial", "none"]
)
def test_a_run_that_cannot_know_what_is_unused_is_not_asked(
    used: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = commit(own_set())
    write_run(used, None)
    capsys.readouterr()
    assert kvcache("prune", "--delete") == 2
    assert only_line(capsys).endswith(
        f"the run of .kvcache {why}, so it cannot know which are unused: run all tests with "
        "--kv-baseline=golden, then prune"
    )
    assert path.exists()


# What is wrong, in one line


def only_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line on standard error, which must be all that was printed and harmless."""
    shown = capsys.readouterr()
    [line] = shown.err.splitlines()
    assert not shown.out
    assert line.isprintable()
    return line


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


def test_a_model_that_is_gone_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commit(own_set())
    change(OWN, model=str(project / "gone"))
    capsys.readouterr()
    assert kvcache("refresh") == 2
    assert "gone does not exist" in only_line(capsys)


def test_an_engine_that_breaks_leaves_the_goldens_and_its_log(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(own_set("well"))
    commit(own_set())
    assert not list(project.glob("temporary/kvcache-*"))
    change(OWN, engine_args=FAILING)
    before = contents()
    assert kvcache("refresh") == 2
    assert contents() == before
    [*_, line] = capsys.readouterr().err.splitlines()
    assert "scripted failure" in line
    [log] = project.glob("temporary/kvcache-*/engines/*/engine.log")
    assert str(log) in line
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


def test_a_place_where_nothing_can_be_written_is_found_before_engines_start(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert kvcache(*NEW, "--kv-golden-dir=own.jsonl/below") == 2
    assert "own.jsonl" in only_line(capsys)
    assert not engines_started()


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    commit(own_set())
    program = (
        "import sys; from pytest_kvcache.cli import main; sys.exit(main(['golden', 'verify', '--json']))"
    )
    command = f'{sys.executable} -c "{program}" | true; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_terminal_that_knows_ascii_alone_is_shown_escapes() -> None:
    misnamed = commit(own_set()).with_name("modèle.json")
    misnamed.write_text("{}")
    program = "import sys; from pytest_kvcache.cli import main; sys.exit(main(['golden', 'verify']))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 1
    assert r"mod\xe8le.json" in done.stdout


def test_help_loads_neither_numpy_nor_torch() -> None:
    program = """
import sys
from pytest_kvcache.cli import main
try:
    main(["golden", "refresh", "--help"])
except SystemExit:
    print([name for name in ("numpy", "torch", "vllm", "msgspec", "pytest") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
