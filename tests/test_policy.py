"""A policy is read whole or refused in one line; what it declares is found by model and dtype."""

from __future__ import annotations

import json
import tomllib
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pytest_kvcache.errors import UsageError
from pytest_kvcache.policy import Limits, Policy, load_policy, policy_schema

FULL = """
[limits]
delta_nll = 0.2
min_prompts = 32

[limits."Qwen/Qwen2-7B-Instruct"]
same_top_loss = 0.1
min_prompts = 64

[variants.k-high]
kv_cache_dtype = "fp8"
engine_args = { kv_cache_dtype_skip_layers = ["0", "27"], enforce_eager = true }

[[known_bad]]
model = "ref:gqa-kbias"
dtype = "fp8"
codes = ["delta-nll", "degenerate"]
why = "key biases under e4m3"
expires = 2030-01-31

[[known_bad]]
model = "ref:gqa-kbias"
dtype = "k-high"
codes = ["same-top"]
why = "only half mended"
link = "https://example.org/issues/1"

[chat_template_kwargs."Qwen/Qwen3-8B"]
enable_thinking = false
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def _write(text: str) -> Path:
        file = tmp_path / "policy.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return _write


def schema() -> dict[str, Any]:
    shipped = resources.files("pytest_kvcache") / "schemas" / "policy.schema.json"
    loaded: dict[str, Any] = json.loads(shipped.read_text(encoding="utf-8"))
    return loaded


def as_json(text: str) -> Any:
    return json.loads(json.dumps(tomllib.loads(text), default=str))


def test_limits_of_a_model_override_the_common_ones_name_by_name(write: Any) -> None:
    policy = load_policy(write(FULL))
    ours = policy.limits_for("Qwen/Qwen2-7B-Instruct")
    assert (ours.delta_nll, ours.same_top_loss, ours.min_prompts) == (0.2, 0.1, 64)
    others = policy.limits_for("ref:gqa")
    assert (others.delta_nll, others.same_top_loss, others.min_prompts) == (0.2, Limits().same_top_loss, 32)


def test_an_empty_policy_and_none_have_the_default_limits(write: Any) -> None:
    assert load_policy(write("")) == Policy()
    assert Policy().limits_for("any/model") == Limits()


def test_a_loop_or_two_under_penalties_do_not_void_a_baseline() -> None:
    assert Limits().baseline_degenerate_penalised == 0.25


def test_variants_have_a_dtype_and_engine_arguments(write: Any) -> None:
    variant = load_policy(write(FULL)).variants["k-high"]
    assert variant.kv_cache_dtype == "fp8"
    assert variant.engine_args == {"kv_cache_dtype_skip_layers": ["0", "27"], "enforce_eager": True}


def test_a_chat_template_is_told_what_stands_below_its_models_name(write: Any) -> None:
    policy = load_policy(write(FULL))
    told = (("chat_template_kwargs", '{"enable_thinking": false}'),)
    assert policy.template_arguments("Qwen/Qwen3-8B") == told
    assert policy.template_arguments("Qwen/Qwen3-4B") == ()


@pytest.mark.parametrize(
    ("model", "label", "why"),
    [
        ("ref:gqa-kbias", "fp8", "key biases under e4m3"),
        ("ref:gqa-kbias", "fp8_e4m3", "key biases under e4m3"),
        ("ref:gqa-kbias", "k-high", "only half mended"),
        ("ref:gqa-kbias", "fp8_e5m2", None),
        ("ref:gqa", "fp8", None),
    ],
)
def test_a_declaration_is_found_by_model_and_any_spelling_of_the_dtype(
    write: Any, model: str, label: str, why: str | None
) -> None:
    entry = load_policy(write(FULL)).known_bad_for(model, label)
    assert (entry.why if entry else None) == why


def test_a_declaration_that_names_tests_is_theirs_alone_and_stands_for_them(write: Any) -> None:
    last = FULL[FULL.rindex("[[known_bad]]") :].partition("\n\n")[0] + "\n"
    of_tests = last.replace('"k-high"', '"fp8_e4m3"')
    policy = load_policy(write(f'{FULL}{of_tests}tests = ["test_topic", "test_topic_full"]\n'))

    def declared(test: str | None) -> tuple[str, ...]:
        entry = policy.known_bad_for("ref:gqa-kbias", "fp8", test)
        return entry.codes if entry else ()

    assert declared("test_topic") == declared("test_topic_full") == ("same-top",)
    assert declared("test_verdict") == declared(None) == ("delta-nll", "degenerate")
    assert len(policy.all_known_bad_for("ref:gqa-kbias", "fp8")) == 2
    alone = load_policy(write(of_tests + 'tests = ["test_topic"]\n'))
    assert alone.known_bad_for("ref:gqa-kbias", "fp8", "test_verdict") is None


def test_a_declaration_holds_to_the_end_of_its_last_day(write: Any) -> None:
    dated, linked = load_policy(write(FULL)).known_bad
    assert not dated.expired(date(2030, 1, 31))
    assert dated.expired(date(2030, 2, 1))
    assert not linked.expired(date.max)


WRONG = {
    "unknown section": ("[limits]", "[limit]", "unknown field `limit`"),
    "unknown limit": ("delta_nll = 0.2", "delta_nl = 0.2", "unknown field `delta_nl` (at $.limits)"),
    "unknown limit of a model": (
        "same_top_loss",
        "same_top",
        'unknown field `same_top` (at $.limits."Qwen/Qwen2-7B-Instruct")',
    ),
    "limit of the wrong type": ("0.2", '"0.2"', "Expected `float`, got `str` (at $.limits.delta_nll)"),
    "negative limit": ("0.2", "-0.2", "Expected `float` >= 0.0 (at $.limits.delta_nll)"),
    "limit that is no number": ("0.2", "nan", "(at $.limits.delta_nll)"),
    "limit without end": ("0.2", "inf", "delta_nll must be finite (at $.limits)"),
    "no prompts at all": ("= 64", "= 0", '(at $.limits."Qwen/Qwen2-7B-Instruct".min_prompts)'),
    "unknown field of a variant": ("engine_args", "args", "unknown field `args` (at $.variants"),
    "variant called like a dtype": (
        "variants.k-high",
        "variants.fp8",
        "the name of a kv dtype (at $.variants.fp8)",
    ),
    "variant with an odd name": ("variants.k-high", 'variants."a,b"', "letters, digits"),
    "dtype twice": ("enforce_eager = true", 'kv_cache_dtype = "fp8"', "may not hold kv_cache_dtype"),
    "argument that is no JSON": ("= true", "= 2020-01-01", "must be JSON values"),
    "wildcard": ('"ref:gqa-kbias"', '"ref:*"', "wildcards are not understood (at $.known_bad[0])"),
    "no code": ('["same-top"]', "[]", "length >= 1 (at $.known_bad[1].codes)"),
    "unknown code": ('["same-top"]', '["odd"]', "Invalid enum value 'odd' (at $.known_bad[1].codes[0])"),
    "code of the run": ('["same-top"]', '["engine-failed"]', "engine-failed is no quality code"),
    "no reason": ('"only half mended"', '""', "(at $.known_bad[1].why)"),
    "neither date nor link": (
        'link = "https://example.org/issues/1"',
        "",
        "give `expires` (a date) or `link`",
    ),
    "date as text": ("2030-01-31", '"2030-01-31"', "got `str` (at $.known_bad[0].expires)"),
    "declared twice": ('dtype = "k-high"', 'dtype = "fp8_e4m3"', "is declared already by $.known_bad[0]"),
    "template without a model": (
        '."Qwen/Qwen3-8B"]',
        "]",
        "Expected `object`, got `bool` (at $.chat_template_kwargs[...])",
    ),
    "template of a wildcard": (
        "Qwen3-8B",
        "Qwen3-*",
        'wildcards are not understood (at $.chat_template_kwargs."Qwen/Qwen3-*")',
    ),
    "template that is no template": ("enable_thinking", "tokenize", "a chat template is not told tokenize"),
    "template told no JSON": ("= false", "= 2020-01-01", "its values must be JSON values"),
    "template told no number": ("= false", "= nan", "its values must be JSON values"),
    "template of a variant": (
        "enforce_eager = true",
        "chat_template_kwargs = {}",
        'give them to the model, as [chat_template_kwargs."MODEL"] (at $.variants[...])',
    ),
    "test by wildcard": (
        'why = "only half',
        'tests = ["test_*"]\nwhy = "only half',
        "each of tests must be one name: wildcards are not understood (at $.known_bad[1])",
    ),
    "no test": ('why = "only half', 'tests = []\nwhy = "only half', "(at $.known_bad[1].tests)"),
    "test declared twice": (
        'codes = ["same-top"]',
        (
            'codes = ["kld"]\ntests = ["test_a"]\nwhy = "w"\nlink = "l"\n\n[[known_bad]]\n'
            'model = "ref:gqa-kbias"\ndtype = "k-high"\ncodes = ["kld"]\ntests = ["test_b", "test_a"]'
        ),
        "test_a of ref:gqa-kbias under k-high is declared already by $.known_bad[1] (at $.known_bad[2])",
    ),
    "no number": (
        "enforce_eager = true",
        "enforce_eager = true, a = nan",
        "engine_args must be JSON values",
    ),
    "deeply nested": ("delta_nll = 0.2", f"delta_nll = {'[' * 5000}{']' * 5000}", "is nested too deeply"),
    "no TOML": ("delta_nll = 0.2", "delta_nll =", "is not TOML"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_policy_is_refused_in_one_line_with_file_and_place(write: Any, name: str) -> None:
    right, wrong, complaint = WRONG[name]
    assert right in FULL
    file = write(FULL.replace(right, wrong))
    with pytest.raises(UsageError) as caught:
        load_policy(file)
    message = str(caught.value)
    assert complaint in message
    assert str(file) in message
    assert "\n" not in message


def test_a_policy_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the policy .*nowhere.toml: No such file"):
        load_policy(tmp_path / "nowhere.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="it is not UTF-8"):
        load_policy(binary)


def test_the_shipped_schema_is_the_one_that_the_code_makes() -> None:
    assert schema() == policy_schema(), "write policy_schema() to pytest_kvcache/schemas/policy.schema.json"


def test_the_schema_is_valid_and_admits_a_full_policy() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(as_json(FULL), schema())


@pytest.mark.parametrize(
    "name",
    [
        "unknown section",
        "unknown limit",
        "unknown limit of a model",
        "negative limit",
        "no code",
        "code of the run",
    ],
)
def test_an_editor_with_the_schema_sees_the_mistake(name: str) -> None:
    right, wrong, _ = WRONG[name]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(as_json(FULL.replace(right, wrong)), schema())
