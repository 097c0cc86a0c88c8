"""Goldens of models in directories: of the model that it is, however and wherever somebody names it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from golden_command import change, engines_started, kvcache, only_line
from verdict_samples import prompt_set

from pytest_kvcache.errors import UsageError
from pytest_kvcache.golden import read
from pytest_kvcache.golden_use import check_namesakes
from pytest_kvcache.models import kept_name
from pytest_kvcache.records import EngineSpec, PromptSet

FP8 = "--kv-dtypes=fp8"
ALL = "--kv-golden-update=all"
SUBJECT = "models--m/own-256.fp8_e4m3.cpu.json"
OWN_TEST = """
import pytest
import pytest_kvcache as kv

@pytest.mark.kv_sensitive(prompts="own.jsonl")
def test_own(kv_outputs, kv_golden):
    assert kv_golden["own"].outputs.spec.model == kv_outputs["own"].spec.model
    kv.assert_matches_golden(kv_outputs, kv_golden)
"""


def put_model(directory: Path, weights: str = "weights") -> Path:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "pytorch_model.bin").write_text(weights)
    return directory


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "team"
    put_model(root / "models" / "m")
    (root / "tests").mkdir()
    monkeypatch.chdir(root)
    return root


@pytest.mark.usefixtures("root")
class TestName:
    @pytest.mark.parametrize(
        "model", ["models/m", "./models/m", "models/m/", "tests/../models/m", "{root}/models/m"]
    )
    def test_a_directory_below_the_root_has_one_name(self, model: str, root: Path) -> None:
        assert kept_name(model.format(root=root), root) == "models/m"

    def test_it_does_not_depend_on_the_working_directory(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(root / "tests")
        assert kept_name("../models/m", root) == "models/m"

    def test_of_a_directory_elsewhere_only_the_last_part_is_told(self, root: Path) -> None:
        elsewhere = put_model(root.parent / "somebody" / "m")
        assert kept_name(str(elsewhere), root) == "m"
        assert kept_name("../somebody/m", root) == "m"

    def test_a_link_is_called_as_in_the_project(self, root: Path) -> None:
        (root / "linked").symlink_to(put_model(root.parent / "4f2d81c0a9be"))
        assert kept_name("./linked", root) == "linked"

    def test_a_root_that_is_reached_by_a_link_is_the_same_root(self, root: Path) -> None:
        link = root.parent / "link"
        link.symlink_to(root)
        assert kept_name(str(link / "models" / "m"), root) == "models/m"

    @pytest.mark.parametrize("model", ["ref:gqa", "Qwen/Qwen2-7B-Instruct", "gpt2"])
    def test_other_models_keep_their_names(self, model: str, root: Path) -> None:
        assert kept_name(model, root) == model


def test_two_models_that_would_have_one_golden_are_refused(root: Path) -> None:
    one, other = (str(put_model(root.parent / place / "m")) for place in ("one", "other"))

    def wanted(*models: str) -> list[tuple[str, EngineSpec, PromptSet]]:
        return [("a test", EngineSpec(model, "auto", golden="auto"), prompt_set(2)) for model in models]

    check_namesakes(wanted(one, one, f"{other}/../../one/m", "gpt2"), root)
    with pytest.raises(UsageError) as caught:
        check_namesakes(wanted(one, other), root)
    assert str(caught.value).startswith(f"goldens of {one} and of {other} would both be kept as m: keep")


class TestRuns:
    @pytest.fixture
    def team(self, project: pytest.Pytester) -> pytest.Pytester:
        put_model(project.path / "models" / "m")
        (project.path / "own.jsonl").write_text('{"id": "a", "text": "One"}\n{"id": "b", "text": "Two"}\n')
        project.makepyfile(OWN_TEST)
        return project

    @pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
    def test_the_golden_is_found_however_the_directory_is_named(
        self, team: pytest.Pytester, workers: tuple[str, ...]
    ) -> None:
        place = team.path / "models" / "m"
        assert team.runpytest(FP8, f"--kv-models={place}", ALL, *workers).ret == 0
        [file] = team.path.glob("golden/*/*.json")
        assert str(file.relative_to(team.path / "golden")) == SUBJECT
        assert str(team.path) not in file.read_text()
        for model in ("models/m", "./models/m", place):
            assert team.runpytest(FP8, f"--kv-models={model}", *workers).ret == 0
        before = file.read_bytes()
        result = team.runpytest(FP8, "--kv-models=./models/m", "--kv-golden-update=new", *workers)
        result.stdout.fnmatch_lines(["nothing to write*"])
        assert file.read_bytes() == before

    def test_another_machine_finds_it_by_its_last_part_and_content(self, team: pytest.Pytester) -> None:
        here, there = (put_model(team.path.parent / f"{team.path.name}-{who}" / "m") for who in "ab")
        assert team.runpytest(FP8, f"--kv-models={here}", ALL).ret == 0
        assert team.runpytest(FP8, f"--kv-models={there}").ret == 0
        (there / "pytorch_model.bin").write_text("other weights")
        result = team.runpytest(FP8, f"--kv-models={there}")
        assert result.ret == 1
        result.stdout.fnmatch_lines(["*model*sha256:*"])

    def test_what_is_unused_is_known_by_the_same_name(self, team: pytest.Pytester) -> None:
        assert team.runpytest(FP8, "--kv-models=./models/m", ALL).ret == 0
        here = f"--kv-models={team.path / 'models' / 'm'}"
        result = team.runpytest(FP8, here)
        result.stdout.no_fnmatch_line("*no test uses*")
        (team.path / "own.jsonl").rename(team.path / "other.jsonl")
        team.makepyfile(OWN_TEST.replace("own.jsonl", "other.jsonl").replace('["own"]', '["other"]'))
        assert team.runpytest(FP8, "--kv-models=./models/m", ALL).ret == 0
        result = team.runpytest(FP8, here)
        result.stdout.fnmatch_lines([f"*no test uses {SUBJECT} *"])


class TestCommand:
    pytestmark = pytest.mark.usefixtures("repository")
    new = ("refresh", "--kv-models=./models/m", "--prompts=own.jsonl")
    path = Path("golden/models--m/own-80.auto.cpu.json")

    @pytest.fixture(autouse=True)
    def _model(self, repository: Path) -> None:
        put_model(repository / "models" / "m")
        assert kvcache(*self.new) == 0

    def test_a_golden_is_made_anew_from_the_directory_that_it_names(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert read(self.path).outputs.spec.model == "models/m"
        assert kvcache("refresh", self.path) == 0
        assert kvcache("diff") == 0
        Path("models/m/pytorch_model.bin").write_text("other weights")
        assert kvcache("diff") == 1
        assert "model_id" in capsys.readouterr().out

    @pytest.mark.parametrize("action", ["diff", "refresh"])
    def test_a_directory_that_is_not_there_is_named_and_no_hub_asked(
        self, action: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.rmtree("models")
        Path("starts").unlink()
        capsys.readouterr()
        assert kvcache(action) == 2
        assert f"{self.path}: its model is the directory models/m, which is not there" in only_line(capsys)
        assert not engines_started()

    def test_a_golden_that_was_kept_as_the_directory_was_typed_is_still_found(self) -> None:
        change(self.path, model="./models/m")
        assert read(self.path).outputs.spec.model == "./models/m"
        assert kvcache(*self.new) == 0
        assert read(self.path).outputs.spec.model == "models/m"
