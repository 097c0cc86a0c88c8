"""Secrets never reach a report; settings that only sound like one stay readable."""

from __future__ import annotations

import json

import pytest

from pytest_kvcache.records import EngineSpec
from pytest_kvcache.redact import redact, redact_command, redact_spec


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("hf_token=opensesame", "hf_token=***"),
        ("HF_TOKEN: opensesame", "HF_TOKEN: ***"),
        ("api-key=opensesame&x=1", "api-key=***&x=1"),
        ("https://host/v1?api_key=opensesame&n=1", "https://host/v1?api_key=***&n=1"),
        ("https://user:opensesame@host:8000/v1", "https://***@host:8000/v1"),
        ("https://opensesame@host/v1", "https://***@host/v1"),
        ('{"Authorization": "Bearer opensesame"}', '{"Authorization": ***}'),
        ("Authorization: Bearer opensesame", "Authorization: ***"),
        ("password='open sesame'", "password=***"),
        ("refused hf_abcdefghijklmnopqrstuv", "refused ***"),
        ("refused sk-abcdefghijklmnopqrstuv", "refused ***"),
        ("refused ghp_abcdefghijklmnopqrstuv", "refused ***"),
        ("refused AKIAABCDEFGHIJKLMNOP", "refused ***"),
    ],
)
def test_a_secret_is_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "tokenizer=Qwen/Qwen2-7B",
        "max_tokens=256",
        "--kv-max-tokens=4",
        "max_num_batched_tokens=2048",
        "skip_special_tokens: true",
        "https://host:8000/v1?user=a@b",
        "fp8=http://localhost:8000",
        "8000 tokens: enough",
        "sha256:0123456789abcdef",
    ],
)
def test_a_setting_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["--api-key", "open sesame", "-x"], ["--api-key", "***", "-x"]),
        (["--api-key=open,sesame;open"], ["--api-key=***"]),
        (["--kv-engine-arg", "hf_token=open sesame"], ["--kv-engine-arg", "hf_token=***"]),
        (["--kv-engine-arg=hf_token=open&sesame"], ["--kv-engine-arg=hf_token=***"]),
        (["--kv-server=fp8=https://a:b@host/"], ["--kv-server=fp8=https://***@host/"]),
        (["--token", "--api-key", "opensesame"], ["--token", "***", "opensesame"]),
        (["pytest", "suites", "--kv-dtypes=fp8,auto"], ["pytest", "suites", "--kv-dtypes=fp8,auto"]),
    ],
)
def test_a_command_line_loses_its_secrets(command: list[str], shown: list[str]) -> None:
    assert redact_command(command) == tuple(shown)


def test_engine_arguments_lose_their_secrets_at_any_depth() -> None:
    nested = {
        "headers": {"Authorization": "Bearer opensesame"},
        "urls": ["https://a:opensesame@host"],
        "n": 1,
    }
    spec = EngineSpec(
        "https://a:opensesame@host/model",
        "fp8_e4m3",
        revision="main",
        engine_args=(("extra", json.dumps(nested)), ("hf_token", '"opensesame"')),
    )
    shown = redact_spec(spec)
    assert "opensesame" not in repr(shown)
    assert shown.arguments() == {
        "extra": {"headers": {"Authorization": "***"}, "urls": ["https://***@host"], "n": 1},
        "hf_token": "***",
    }


def test_a_spec_without_secrets_keeps_its_key() -> None:
    spec = EngineSpec("ref:gqa", "fp8_e4m3", engine_args=(("hf_token", "null"), ("skip", '["0","1"]')))
    assert redact_spec(spec).key == spec.key
