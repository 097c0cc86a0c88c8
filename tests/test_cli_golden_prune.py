"""``kvcache golden prune``: what the last run did not use is deleted, if that run can know."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import report_samples
import scripted
from golden_command import change, commit, contents, kvcache, only_line, own_set

from pytest_kvcache.report import Goldens, write_results

pytestmark = pytest.mark.usefixtures("repository")


def write_run(used: tuple[str, ...], unused: tuple[str, ...] | None) -> None:
    results = report_samples.results()
    directory = Path(".kvcache")
    directory.mkdir(exist_ok=True)
    files = {name: Path("golden", name) for name in unused or ()}
    digests = {name: sha256(file.read_bytes()).hexdigest() for name, file in files.items() if file.exists()}
    write_results(directory, replace(results, goldens=Goldens(used, unused, digests)))


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
    assert json.loads(capsys.readouterr().out) == {
        "unused": [str(unused), str(leftover)],
        "changed": [],
        "deleted": True,
    }
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


def test_what_has_changed_since_that_run_is_left_and_the_rest_deleted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    used, refreshed, unused = (commit(own_set(name)) for name in ("own", "refreshed", "unused"))
    files = [path.relative_to("golden").as_posix() for path in (used, refreshed, unused)]
    write_run((files[0],), tuple(files[1:]))
    change(refreshed, engine_args=scripted.spec(says="other").engine_args)
    capsys.readouterr()
    assert kvcache("prune") == 2
    assert "run all tests again" in capsys.readouterr().err
    assert kvcache("prune", "--delete") == 2
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [f"deleted: {unused}"]
    assert shown.err.startswith(f"kvcache: {refreshed} has changed or gone since that run")
    assert used.exists()
    assert refreshed.exists()
    assert not unused.exists()


def test_results_of_a_version_that_noted_no_digests_are_not_believed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = commit(own_set())
    file = path.relative_to("golden").as_posix()
    write_run((file,), (file,))
    results = Path(".kvcache/results.json")
    document = json.loads(results.read_text())
    del document["goldens"]["unused_sha256"]
    results.write_text(json.dumps(document))
    capsys.readouterr()
    assert kvcache("prune", "--delete") == 2
    assert "of an older pytest-kvcache" in only_line(capsys)
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
