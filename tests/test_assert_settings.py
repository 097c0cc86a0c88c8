"""What an engine resolved is what was asked for, and but for the cache what its baseline resolved."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from verdict_samples import PROVENANCE, QUANTIZED, output_set, prompt_set

import pytest_kvcache as kv
from pytest_kvcache.records import OutputSet, PlannedOutputs, Provenance, ReasonCode

BASELINE = replace(PROVENANCE, enforce_eager=True, chunked_prefill=True, kv_capacity_tokens=62_080)
CANDIDATE = replace(
    QUANTIZED, enforce_eager=True, chunked_prefill=True, kv_capacity_tokens=2 * BASELINE.kv_capacity_tokens
)


def given(provenance: Provenance, dtype: str = "fp8_e4m3", /, **arguments: Any) -> OutputSet:
    outputs = output_set(prompt_set(4), provenance, dtype=dtype)
    asked = tuple(sorted((name, json.dumps(value)) for name, value in arguments.items()))
    return replace(outputs, spec=replace(outputs.spec, engine_args=asked))


def baseline(**arguments: Any) -> OutputSet:
    return given(BASELINE, "auto", **arguments)


def lost(output: OutputSet, beside: OutputSet | None = None, **how: Any) -> list[str]:
    """Return the lines of the failure but the first."""
    with pytest.raises(kv.QualityError) as caught:
        kv.assert_settings_kept(output, beside or baseline(), **how)
    assert caught.value.codes == (ReasonCode.SETTING_LOST,)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_a_candidate_that_differs_by_its_cache_alone_passes() -> None:
    kv.assert_settings_kept(given(CANDIDATE), baseline())
    kv.assert_settings_kept(PlannedOutputs((given(CANDIDATE),)), PlannedOutputs((baseline(),)))
    kv.assert_settings_kept(baseline(), baseline())


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("prefix_caching", False, "prefix caching: False, the baseline's is True"),
        ("model_dtype", "float16", "model dtype: float16, the baseline's is bfloat16"),
        ("quantization", "gptq", "quantization: gptq, the baseline's is None"),
        ("max_model_len", 512, "max model len: 512, the baseline's is 2048"),
        ("chat_template_sha256", "ab", "chat template sha256: ab, the baseline's is None"),
        ("model_id", "sha256:bb", "model id: sha256:bb, the baseline's is sha256:aa"),
        ("chunked_prefill", False, "chunked prefill: False, the baseline's is True"),
        ("enforce_eager", False, "enforce eager: False, the baseline's is True"),
    ],
)
def test_each_setting_that_was_lost_in_silence_is_named(field: str, value: Any, line: str) -> None:
    (found,) = lost(given(replace(CANDIDATE, **{field: value})))
    assert found.startswith(line)


def test_an_attention_backend_may_follow_the_kv_dtype_but_not_come_instead_of_one_asked_for() -> None:
    other = replace(CANDIDATE, attention_backend="FLASHINFER")
    kv.assert_settings_kept(given(other), baseline())
    (found,) = lost(given(other, attention_backend="FLASH_ATTN"), baseline(attention_backend="FLASH_ATTN"))
    assert found == "attention backend: FLASHINFER, asked for was FLASH_ATTN"
    (found,) = lost(given(other, attention_config={"backend": "FLASH_ATTN"}), baseline())
    assert found == "attention backend: FLASHINFER, asked for was FLASH_ATTN"
    kv.assert_settings_kept(given(other, attention_config={"use_cudnn_prefill": True}), baseline())


def test_a_setting_that_engine_arguments_ask_for_may_differ() -> None:
    variant = given(replace(CANDIDATE, prefix_caching=False), enable_prefix_caching=False)
    kv.assert_settings_kept(variant, baseline())
    shorter = given(replace(CANDIDATE, max_model_len=512), max_model_len=512)
    kv.assert_settings_kept(shorter, baseline())
    other = given(replace(CANDIDATE, attention_backend="FLASH_ATTN"), attention_backend="flash_attn")
    kv.assert_settings_kept(other, baseline())


def test_what_was_asked_for_and_not_given_is_lost_though_the_baseline_lost_it_too() -> None:
    ours = given(replace(CANDIDATE, prefix_caching=False), enable_prefix_caching=True)
    theirs = replace(baseline(enable_prefix_caching=True), provenance=replace(BASELINE, prefix_caching=False))
    assert lost(ours, theirs) == ["prefix caching: False, asked for was True"]


@pytest.mark.parametrize(
    ("field", "argument", "asked", "resolved", "wanted"),
    [
        ("model_dtype", "dtype", "float16", "bfloat16", "float16"),
        ("model_dtype", "dtype", "half", "bfloat16", "float16"),
        ("model_dtype", "dtype", "float", "bfloat16", "float32"),
        ("quantization", "quantization", "fp8", None, "fp8"),
        ("quantization", "quantization", "gptq", "awq_marlin", "gptq"),
    ],
)
def test_a_dtype_or_quantization_that_neither_side_got_is_lost(
    field: str, argument: str, asked: str, resolved: Any, wanted: str
) -> None:
    ours = given(replace(CANDIDATE, **{field: resolved}), **{argument: asked})
    theirs = given(replace(BASELINE, **{field: resolved}), "auto", **{argument: asked})
    assert lost(ours, theirs) == [f"{field.replace('_', ' ')}: {resolved}, asked for was {wanted}"]


@pytest.mark.parametrize(
    ("field", "argument", "asked", "resolved"),
    [
        ("model_dtype", "dtype", "Half", "float16"),
        ("model_dtype", "dtype", "bfloat16", "bfloat16"),
        ("model_dtype", "dtype", "auto", "float16"),
        ("quantization", "quantization", "gptq", "gptq_marlin"),
        ("quantization", "quantization", "awq_marlin", "auto_awq"),
        ("quantization", "quantization", "marlin", "auto_gptq"),
        ("quantization", "quantization", "fp8", "modelopt"),
        ("quantization", "quantization", "mxfp4", "gpt_oss_mxfp4"),
    ],
)
def test_a_dtype_or_quantization_that_vllm_names_otherwise_is_no_loss(
    field: str, argument: str, asked: str, resolved: Any
) -> None:
    ours = given(replace(CANDIDATE, **{field: resolved}), **{argument: asked})
    kv.assert_settings_kept(ours, given(replace(BASELINE, **{field: resolved}), "auto", **{argument: asked}))


def test_an_argument_that_is_no_plain_value_is_held_against_the_baselines() -> None:
    kv.assert_settings_kept(given(CANDIDATE, max_model_len="2k"), baseline(max_model_len="2k"))


@pytest.mark.parametrize("asked", [-1, "auto"])
def test_a_length_that_is_fitted_to_the_memory_may_be_longer_in_a_smaller_cache_and_not_shorter(
    asked: int | str,
) -> None:
    longer, shorter = (given(replace(CANDIDATE, max_model_len=n), max_model_len=asked) for n in (4000, 1000))
    kv.assert_settings_kept(longer, baseline(max_model_len=asked))
    (found,) = lost(shorter, baseline(max_model_len=asked))
    assert found.startswith("max model len: 1000, the baseline's is 2048")


@pytest.mark.parametrize("resolved", ["bfloat16", "fp8_e5m2", "bfloat16+fp8_e4m3"])
def test_another_kv_dtype_than_was_asked_for_is_lost(resolved: str) -> None:
    found = lost(given(replace(CANDIDATE, kv_cache_dtype=resolved)))
    assert found == [f"kv cache dtype: {resolved}, asked for was fp8_e4m3"]


@pytest.mark.parametrize(
    ("asked", "resolved"),
    [("fp8_e4m3", "fp8_ds_mla"), ("turboquant_4bit_nc", "bfloat16+turboquant_4bit_nc")],
)
def test_a_layout_or_layers_that_vllm_chooses_with_a_kv_dtype_are_no_loss(asked: str, resolved: str) -> None:
    kv.assert_settings_kept(given(replace(CANDIDATE, kv_cache_dtype=resolved), asked), baseline())
    (found,) = lost(given(replace(CANDIDATE, kv_cache_dtype="bfloat16+fp8_e5m2"), asked))
    assert found.startswith("kv cache dtype: bfloat16+fp8_e5m2, asked for was")


def test_layers_left_out_on_purpose_are_no_loss_and_cost_capacity() -> None:
    mixed = replace(CANDIDATE, kv_cache_dtype="bfloat16+fp8_e4m3", kv_capacity_tokens=64_000)
    kv.assert_settings_kept(given(mixed, kv_cache_dtype_skip_layers=["0"]), baseline())


def test_a_quantized_cache_that_holds_hardly_more_is_lost() -> None:
    small = given(replace(CANDIDATE, kv_capacity_tokens=62_080))
    (found,) = lost(small)
    assert found == "kv cache capacity: 62,080 tokens, 1.00 times the baseline's 62,080 (at least 1.50 times)"
    kv.assert_settings_kept(small, baseline(), capacity_gain=1)


def test_a_smaller_cache_is_lost_unless_arguments_ask_for_it() -> None:
    less = replace(BASELINE, kv_capacity_tokens=1000)
    assert lost(given(less, "auto")) == ["kv cache capacity: 1,000 tokens, fewer than the baseline's 62,080"]
    kv.assert_settings_kept(given(less, "auto", kv_cache_memory_bytes=1 << 20), baseline())
    blocks: dict[str, Any] = {"num_gpu_blocks_override": 10}
    kv.assert_settings_kept(
        given(replace(CANDIDATE, kv_capacity_tokens=62_080), **blocks), baseline(**blocks)
    )


def test_a_cache_smaller_by_some_blocks_is_as_large() -> None:
    kv.assert_settings_kept(given(replace(BASELINE, kv_capacity_tokens=62_080 - 512), "auto"), baseline())


@pytest.mark.parametrize("field", ["enforce_eager", "chunked_prefill"])
def test_what_was_asked_for_and_not_given_is_lost_though_the_baseline_does_not_tell(field: str) -> None:
    silent = replace(baseline(), provenance=replace(BASELINE, enforce_eager=None, chunked_prefill=None))
    argument = {"enforce_eager": "enforce_eager", "chunked_prefill": "enable_chunked_prefill"}[field]
    asked = not getattr(CANDIDATE, field)
    assert lost(given(CANDIDATE, **{argument: asked}), silent) == [
        f"{field.replace('_', ' ')}: {not asked}, asked for was {asked}"
    ]
    kv.assert_settings_kept(given(CANDIDATE), silent)


def test_beside_a_golden_what_it_does_not_keep_is_left_out() -> None:
    kept = replace(BASELINE, kv_capacity_tokens=0, enforce_eager=None, chunked_prefill=None)
    golden = replace(baseline(), provenance=kept)
    kv.assert_settings_kept(given(CANDIDATE), golden)


@pytest.mark.parametrize("gain", [0.5, float("nan")])
def test_a_gain_below_one_is_refused(gain: float) -> None:
    with pytest.raises(kv.UsageError, match="capacity_gain must be a number of at least 1"):
        kv.assert_settings_kept(given(CANDIDATE), baseline(), capacity_gain=gain)


def test_what_is_no_set_is_refused_by_name() -> None:
    with pytest.raises(kv.UsageError, match=r"^assert_settings_kept: baseline takes an OutputSet"):
        kv.assert_settings_kept(given(CANDIDATE), "auto")  # type: ignore[arg-type]
    with pytest.raises(kv.UsageError, match="at least one set"):
        kv.assert_settings_kept(PlannedOutputs(()), baseline())
