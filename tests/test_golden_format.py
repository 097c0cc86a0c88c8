"""A golden reads as it was written, to the byte, explains itself, and survives a newer format."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from golden_samples import AWKWARD_TEXTS, FULL_PROVENANCE, awkward, golden, penalised, put_in_version_1

from pytest_kvcache.errors import GoldenError
from pytest_kvcache.golden import (
    Encoded,
    GoldenName,
    as_kept,
    encode,
    golden_schema,
    migrate,
    name_of,
    read,
    shipped_golden_schema,
    sidecar,
    sizes,
)
from pytest_kvcache.golden.damage import DamageError
from pytest_kvcache.golden.layout import sealed
from pytest_kvcache.golden.migrate import VERSION
from pytest_kvcache.golden.parsing import MAX_TEXT_BYTES, parse
from pytest_kvcache.records import Counts, Golden

SCHEMAS = Path(str(resources.files("pytest_kvcache"))) / "schemas"
SAMPLES = [golden, penalised, awkward, lambda: golden(logprobs=False)]


def put(encoded: Encoded, folder: Path) -> Path:
    (folder / encoded.sidecar_name).write_bytes(encoded.sidecar)
    path = folder / "golden.json"
    path.write_bytes(encoded.text)
    return path


@pytest.mark.parametrize("sample", SAMPLES, ids=["scored", "penalised", "awkward", "unscored"])
def test_what_was_written_is_read_back(tmp_path: Path, sample: Callable[[], Golden]) -> None:
    of = sample()
    assert read(put(encode(of), tmp_path)) == as_kept(of)


def test_what_is_read_gives_the_same_bytes_again(tmp_path: Path) -> None:
    encoded = encode(golden())
    assert encode(read(put(encoded, tmp_path))) == encoded


def test_what_fits_into_a_text_fits_into_its_sidecar() -> None:
    scores = sidecar.TOKEN_BYTES * MAX_TEXT_BYTES // sizes.TOKEN_BYTES
    assert scores + 5 * sidecar.MAX_PROMPT_TOKENS < sidecar.MAX_BYTES


def test_what_differs_between_two_equal_runs_is_left_out() -> None:
    again = replace(
        FULL_PROVENANCE,
        model_path="/elsewhere",
        device_ids=(3,),
        kv_capacity_tokens=1,
        seconds_to_load=99.0,
        environment=(("VLLM_CPU_OMP_THREADS_BIND", "3"), ("VLLM_NO_USAGE_STATS", "1")),
    )
    one, other = golden(), golden(provenance=again)
    other = replace(other, outputs=replace(other.outputs, seconds=77.0))
    assert encode(one) == encode(other)


def test_other_software_gives_another_golden() -> None:
    upgraded = replace(FULL_PROVENANCE, versions=(("vllm", "0.33.0"),))
    assert encode(golden()).text != encode(golden(provenance=upgraded)).text


def test_every_field_of_a_changed_output_stands_on_lines_of_its_own() -> None:
    one = encode(golden(text=lambda i: f"First {i}.\nSecond.\nThird.")).text.decode().splitlines()
    other = encode(golden(text=lambda i: f"First {i}.\n{'Next' if i == 3 else 'Second'}.\nThird."))
    differing = [line for line in other.text.decode().splitlines() if line not in one]
    tokens, lines = [line for line in differing if '"token_ids"' in line], '        "Next.\\n",'
    assert lines in differing
    assert len(tokens) == 1
    assert " " not in tokens[0].partition(": ")[2]


def test_no_hidden_character_of_a_text_reaches_the_file_as_it_is() -> None:
    text = encode(awkward()).text.decode()
    assert text.isascii() or all(char.isprintable() or char in "\n\u200d" for char in text)
    assert "中文" in text
    assert not {"\u202e", "\x1b", "\u200b", "\u2028", "\x85", "\ufeff"} & set(text)


def test_secrets_do_not_reach_a_golden() -> None:
    encoded = encode(golden(hf_token='"hf_abcdefghijklmnopqrstuv"', max_model_len="2048"))
    assert b"hf_abc" not in encoded.text
    assert b'"max_model_len": "2048"' in encoded.text


def test_a_golden_of_texts_without_scores_keeps_prompt_token_ids(tmp_path: Path) -> None:
    found = read(put(encode(golden(logprobs=False)), tmp_path))
    assert found.scores is None
    assert found.outputs.outputs[0].prompt_token_ids == (1, 2, 3)


@pytest.mark.parametrize("wrong", ["outputs missing", "scores of other texts", "negative token"])
def test_what_could_not_be_read_back_is_not_written(wrong: str) -> None:
    of = golden()
    scored = of.scores
    assert scored is not None
    outputs = of.outputs.outputs
    if wrong == "outputs missing":
        of = replace(of, outputs=replace(of.outputs, outputs=outputs[1:]), scores=None, floor=None)
    elif wrong == "scores of other texts":
        first = replace(scored.scores[0], token_ids=(9, 9))
        of = replace(of, scores=replace(scored, scores=(first,)))
    else:
        first_output = replace(outputs[0], token_ids=(-1,))
        kept = replace(of.outputs, outputs=(first_output, *outputs[1:]))
        of = replace(of, outputs=kept, scores=None, floor=None)
    with pytest.raises(GoldenError, match="cannot be kept"):
        encode(of)


def test_a_name_is_the_same_from_a_golden_and_from_its_file() -> None:
    name = name_of(golden(model="Qwen/Qwen2-7B", variant="fp8.half"))
    assert name == GoldenName("Qwen--Qwen2-7B", "small", 256, "fp8-half", "cpu")
    assert name.path(Path("golden")) == Path("golden/Qwen--Qwen2-7B/small-256.fp8-half.cpu.json")


@pytest.mark.parametrize("model", ["../../etc/passwd", "/", "..", "a" * 500, "模型", "a\nb", ""])
def test_no_model_name_leads_out_of_the_directory(model: str) -> None:
    path = GoldenName(model, model, 1, model, model).path(Path("golden"))
    assert path.parent.parent == Path("golden")
    assert ".." not in path.parts
    assert max(len(part) for part in path.parts) < 230


def test_the_shipped_schema_is_the_one_of_the_code() -> None:
    assert shipped_golden_schema() == golden_schema(), (
        "write golden_schema() to pytest_kvcache/schemas/golden.schema.json"
    )


@pytest.mark.parametrize("schema", sorted(SCHEMAS.glob("*.json")), ids=lambda path: path.name)
def test_patterns_of_the_shipped_schemas_mean_the_same_outside_of_python(schema: Path) -> None:
    of_python = re.compile(r"\\[AZz]|\(\?[P#(aiLmsux>]|\\[wdsb]|[*+?}]\+")
    assert [
        pattern for pattern in patterns(json.loads(schema.read_text())) if of_python.search(pattern)
    ] == []


def patterns(schema: Any) -> list[str]:
    """Return all regular expressions of a schema."""
    if isinstance(schema, list):
        return [pattern for item in schema for pattern in patterns(item)]
    if not isinstance(schema, dict):
        return []
    own = [schema["pattern"]] if isinstance(schema.get("pattern"), str) else []
    return [*own, *schema.get("patternProperties", ()), *patterns(list(schema.values()))]


@pytest.mark.parametrize("key", ["0" * 16 + "\n", "0" * 17, "0" * 15, "A" * 16])
def test_a_key_is_what_its_pattern_says_and_nothing_after_it(key: str) -> None:
    value = json.loads(encode(golden()).text)
    value["prompt_set"]["key"] = key
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, shipped_golden_schema())
    del value["checksum"]
    with pytest.raises(DamageError, match="does not fit its schema"):
        parse(sealed(value))


@pytest.mark.parametrize("sample", SAMPLES, ids=["scored", "penalised", "awkward", "unscored"])
def test_a_written_golden_fits_the_shipped_schema(sample: Callable[[], Golden]) -> None:
    jsonschema.Draft202012Validator.check_schema(shipped_golden_schema())
    jsonschema.validate(json.loads(encode(sample()).text), shipped_golden_schema())


def test_a_golden_of_version_1_is_read_and_does_not_know_what_version_2_added(tmp_path: Path) -> None:
    added = {
        "enforce_eager": True,
        "chunked_prefill": True,
        "checkpoint_scales": 0,
        "scales_differ": "in layer 3",
    }
    of = as_kept(golden(provenance=replace(FULL_PROVENANCE, **added)))  # type: ignore[arg-type]
    of = replace(of, outputs=replace(of.outputs, counts=Counts(preemptions=3)))
    path = put(encode(of), tmp_path)
    assert read(path) == of
    put_in_version_1(path)
    found = read(path)
    assert found == as_kept(golden(provenance=replace(FULL_PROVENANCE, **dict.fromkeys(added))))  # type: ignore[arg-type]
    assert (found.outputs.provenance.chunked_prefill, found.outputs.counts.preemptions) == (None, None)


def test_a_golden_of_an_older_version_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = golden()
    path = put(encode(of), tmp_path)
    older = {key: item for key, item in json.loads(path.read_bytes()).items() if key != "checksum"}
    older |= {"schema_version": 0, "dtype": older.pop("variant")}
    path.write_bytes(sealed(older))
    with pytest.raises(GoldenError, match="never was a schema version 0"):
        read(path)
    step = {0: lambda value: {**{k: v for k, v in value.items() if k != "dtype"}, "variant": value["dtype"]}}
    monkeypatch.setattr(migrate, "STEPS", {**migrate.STEPS, **step})
    assert read(path) == as_kept(of)


@pytest.mark.parametrize("is_sealed", [True, False])
def test_a_golden_of_a_newer_version_says_to_upgrade(tmp_path: Path, is_sealed: bool) -> None:
    path = put(encode(golden()), tmp_path)
    newer = {**json.loads(path.read_bytes()), "schema_version": VERSION + 1, "more": 1}
    del newer["checksum"]
    path.write_bytes(sealed(newer) if is_sealed else sealed(newer)[:-9])
    with pytest.raises(GoldenError, match=r"newer pytest-kvcache \(schema (version )?3\); upgrade yours"):
        read(path)


def test_awkward_texts_are_all_there() -> None:
    assert [output.text for output in as_kept(awkward()).outputs] == list(AWKWARD_TEXTS)
