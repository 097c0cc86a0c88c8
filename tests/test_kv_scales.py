"""A checkpoint's kv scales are read without an engine, and what became of them is told in one line."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from verdict_samples import PROVENANCE, QUANTIZED, output_set, prompt_set

import pytest_kvcache as kv
from pytest_kvcache.engines.attention import kind_of_scales, quantized_scales, read_layers
from pytest_kvcache.engines.kv_scales import (
    LayerScales,
    announces_scales,
    announcing_file,
    check_scales,
    first_difference,
    layer_index,
    read_checkpoint_scales,
)
from pytest_kvcache.records import PlannedOutputs, Provenance, ReasonCode

K, V = 0.25, 0.0625
BF16 = {0.25: 0x3E80, 0.0625: 0x3D80}


def safetensors(path: Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> None:
    header, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def f32(*values: float, shape: tuple[int, ...] = ()) -> tuple[str, list[int], bytes]:
    return "F32", list(shape), struct.pack(f"<{len(values)}f", *values)


def bf16(value: float) -> tuple[str, list[int], bytes]:
    return "BF16", [1], struct.pack("<H", BF16[value])


@pytest.mark.parametrize(
    ("k_name", "v_name"),
    [
        ("self_attn.k_scale", "self_attn.v_scale"),
        ("self_attn.attn.k_scale", "self_attn.attn.v_scale"),
        ("self_attn.k_proj.k_scale", "self_attn.v_proj.v_scale"),
        ("self_attn.qkv_proj.k_scale", "self_attn.qkv_proj.v_scale"),
        ("self_attn.k_proj.output_scale", "self_attn.v_proj.output_scale"),
        ("self_attn.k_cache.scale", "self_attn.v_cache.scale"),
    ],
)
def test_scales_are_found_under_each_of_their_names(tmp_path: Path, k_name: str, v_name: str) -> None:
    layer = "model.layers.11."
    safetensors(tmp_path / "model.safetensors", {layer + k_name: f32(K), layer + v_name: bf16(V)})
    assert read_checkpoint_scales(tmp_path) == {11: LayerScales(11, (K,), (V,))}


def test_one_scale_for_both_is_that_of_keys_and_of_values(tmp_path: Path) -> None:
    safetensors(tmp_path / "model.safetensors", {"model.layers.0.self_attn.kv_scale": f32(K, shape=(1,))})
    assert read_checkpoint_scales(tmp_path) == {0: LayerScales(0, (K,), (K,))}


@pytest.mark.parametrize("shape", [(2,), (2, 1, 1)])
def test_scales_of_single_heads_are_read_in_their_order(tmp_path: Path, shape: tuple[int, ...]) -> None:
    layer = "model.layers.0.self_attn."
    both = {layer + "k_scale": f32(K, V, shape=shape), layer + "v_scale": f32(V, K, shape=shape)}
    safetensors(tmp_path / "model.safetensors", both)
    assert read_checkpoint_scales(tmp_path) == {0: LayerScales(0, (K, V), (V, K))}


def test_scales_of_weights_are_none(tmp_path: Path) -> None:
    layer = "model.layers.0."
    others = {
        layer + "self_attn.k_proj.weight_scale": f32(K),
        layer + "mlp.down_proj.output_scale": f32(K),
        "lm_head.weight": f32(1.0),
    }
    safetensors(tmp_path / "model.safetensors", others)
    assert read_checkpoint_scales(tmp_path) == {}


@pytest.mark.parametrize("unreadable", [("U8", [1], b"\x7b"), ("F32", [0], b"")], ids=["bytes", "empty"])
def test_a_layer_with_scales_that_cannot_be_read_is_left_out_and_nothing_is_known_of_a_checkpoint_of_such(
    tmp_path: Path, unreadable: tuple[str, list[int], bytes]
) -> None:
    first = {"model.layers.0.self_attn.k_scale": unreadable, "model.layers.0.self_attn.v_scale": f32(V)}
    safetensors(tmp_path / "0.safetensors", first)
    assert check_scales(layers(), read_checkpoint_scales(tmp_path), announced=True) == (None, None)
    safetensors(tmp_path / "1.safetensors", {"model.layers.1.self_attn.kv_scale": f32(K)})
    assert read_checkpoint_scales(tmp_path) == {1: LayerScales(1, (K,), (K,))}


@pytest.mark.parametrize("announced", [True, False])
def test_nothing_is_known_of_a_checkpoint_that_is_stored_in_another_format(
    tmp_path: Path, announced: bool
) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
    assert check_scales(layers(), read_checkpoint_scales(tmp_path), announced=announced) == (None, None)


@pytest.mark.parametrize("found", [True, False], ids=["in another format", "nowhere"])
def test_scales_that_were_announced_and_are_all_one_are_lost_wherever_the_checkpoint_is(
    tmp_path: Path, found: bool
) -> None:
    stored = read_checkpoint_scales(tmp_path) if found else None
    lost = layers((1.0, 1.0), (1.0, 1.0))
    told = "config.json announces scales of the kv cache, and every layer has 1.0"
    assert check_scales(lost, stored, announced=True) == (None, told)
    assert check_scales(lost, stored, announced=False) == (None, None)
    assert check_scales([], stored, announced=True) == (None, None)


def test_layers_may_be_in_several_files_and_a_broken_one_is_left_to_the_engine(tmp_path: Path) -> None:
    for layer in (0, 1):
        name = f"model.layers.{layer}.self_attn."
        safetensors(tmp_path / f"{layer}.safetensors", {name + "k_scale": f32(K), name + "v_scale": f32(V)})
    (tmp_path / "2.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    (tmp_path / "3.safetensors").write_bytes(b"")
    assert list(read_checkpoint_scales(tmp_path) or ()) == [0, 1]


def scales(layer: int, k: float, v: float) -> LayerScales:
    return LayerScales(layer, (k,), (v,))


STORED = {0: scales(0, K, V), 1: scales(1, V, K)}


def layers(first: tuple[float, float] = (K, V), second: tuple[float, float] = (V, K)) -> list[LayerScales]:
    return [scales(0, *first), scales(1, *second)]


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ((1.0, 1.0), "layer 1 has lost its scales (k 1, v 1; the checkpoint says k 0.0625, v 0.25)"),
        ((K, V), "layer 1 has those of keys and values swapped (k 0.25, v 0.0625; *"),
        ((V, 2 * K), "layer 1 has other scales (k 0.0625, v 0.5; *"),
    ],
    ids=["lost", "swapped", "other"],
)
def test_the_first_layer_with_other_scales_is_told(second: tuple[float, float], told: str) -> None:
    found = first_difference(layers(second=second), STORED)
    assert found is not None
    assert found.startswith(told.rstrip("*"))


def test_scales_as_stored_are_no_finding_and_rounding_neither() -> None:
    assert first_difference(layers(first=(K * 1.0001, V)), STORED) is None
    assert first_difference([scales(7, 1.0, 1.0)], STORED) is None
    assert first_difference([scales(7, K, V)], STORED, announced=True) is None


def test_a_layer_of_which_the_announced_scales_are_missing_is_told() -> None:
    assert first_difference([*layers(), scales(7, 1.0, 1.0)], STORED, announced=True) == (
        "layer 7 has 1.0: config.json announces scales, and none of it is stored"
    )


BY_HEAD = {1: LayerScales(1, (K, V, K, K), (V, V, K, K))}


@pytest.mark.parametrize(
    ("k", "v", "told"),
    [
        ((K, V, V, K), (V, V, K, K), "other scales (head 2: k 0.0625, v 0.25; the checkpoint says k 0.25, *"),
        ((V, V, K, K), (K, V, K, K), "those of keys and values swapped (head 0: k 0.0625, v 0.25; *"),
        ((1.0,) * 4, (1.0,) * 4, "lost its scales (head 0: k 1, v 1; the checkpoint says k 0.25, v 0.0625)"),
        ((K,), (1.0,), "other scales (k 0.25, v 1; *"),
    ],
    ids=["other", "swapped", "lost", "one-head"],
)
def test_scales_of_single_heads_are_held_against_each_heads(
    k: tuple[float, ...], v: tuple[float, ...], told: str
) -> None:
    found = first_difference([LayerScales(1, k, v)], BY_HEAD)
    assert found is not None
    assert found.removeprefix("layer 1 has ").startswith(told.rstrip("*"))


@pytest.mark.parametrize("heads", [4, 2, 1])
def test_an_engine_of_several_processes_has_the_first_heads_scales_in_its_first(heads: int) -> None:
    first = LayerScales(1, BY_HEAD[1].k[:heads], BY_HEAD[1].v[:heads])
    assert first_difference([first], BY_HEAD) is None


def test_one_stored_scale_is_that_of_every_head() -> None:
    assert first_difference([LayerScales(0, (K,) * 4, (V,) * 4)], STORED) is None
    found = first_difference([LayerScales(0, (K, K, K, 1.0), (V,) * 4)], STORED)
    assert found is not None
    assert found.startswith("layer 0 has other scales (head 3: k 1, ")


@pytest.mark.parametrize("header", [[], {"model.layers.0.self_attn.attn.k_scale": 5}])
def test_nothing_is_known_of_scales_in_a_file_that_is_no_safetensors_file_after_all(
    tmp_path: Path, header: object
) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    assert read_checkpoint_scales(tmp_path) is None


def test_a_checkpoint_that_announces_scales_and_holds_none_has_lost_them(tmp_path: Path) -> None:
    safetensors(tmp_path / "model.safetensors", {"lm_head.weight": f32(1.0)})
    assert announces_scales({"kv_cache_scheme": {"num_bits": 8, "dynamic": False}})
    assert not announces_scales({"kv_cache_scheme": {"num_bits": 8, "dynamic": True}})
    assert not announces_scales({"kv_cache_scheme": None})
    assert not announces_scales(None)
    count, differ = check_scales(layers(), read_checkpoint_scales(tmp_path), announced=True)
    assert (count, differ) == (
        0,
        "config.json announces scales of the kv cache, and the checkpoint holds none",
    )
    assert check_scales([], read_checkpoint_scales(tmp_path), announced=True) == (0, None)
    assert check_scales(layers(), read_checkpoint_scales(tmp_path), announced=False) == (0, None)


FP8 = {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("hf_quant_config.json", {"producer": {"name": "modelopt"}, "quantization": FP8}),
        ("config.json", {"quantization_config": FP8}),
        ("config.json", {"quantization_config": {"quantization": {"kv_cache_quant_algo": "fp8"}}}),
        (
            "config.json",
            {"quantization_config": {"kv_cache_scheme": {"dynamic": False, "num_bits": 8, "type": "float"}}},
        ),
    ],
    ids=["beside", "flat", "nested", "scheme"],
)
def test_the_file_in_which_modelopt_announces_an_fp8_cache_is_told(
    tmp_path: Path, name: str, config: object
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert announcing_file(tmp_path) is None
    (tmp_path / name).write_text(json.dumps(config))
    assert announcing_file(tmp_path) == name


@pytest.mark.parametrize(
    "text",
    [
        '{"quantization": {"kv_cache_quant_algo": null}}',
        '{"quantization": {"kv_cache_quant_algo": "NVFP4"}}',
        '{"kv_cache_scheme": {"type": "float", "num_bits": 8, "dynamic": true}}',
        '["kv_cache_quant_algo", "FP8"]',
        '{"quantization": "FP8"}',
        '{"quantization": {"kv_cache_quant_algo": "FP8"',
    ],
)
def test_files_of_other_content_announce_no_fp8_cache(tmp_path: Path, text: str) -> None:
    (tmp_path / "hf_quant_config.json").write_text(text)
    assert announcing_file(tmp_path) is None


def test_where_the_files_lie_nowhere_known_nothing_is_known_of_scales() -> None:
    assert check_scales(layers(), None, announced=True) == (None, None)


def test_only_layers_with_a_quantized_cache_use_scales() -> None:
    found = [
        ("auto", (1.0,), (1.0,), "model.layers.0.self_attn.attn", "CPU_ATTN"),
        ("fp8", (K, V), (V, K), "model.layers.1.self_attn.attn", "CPU_ATTN"),
    ]
    assert list(quantized_scales(found)) == [LayerScales(1, (K, V), (V, K))]
    assert list(quantized_scales(found, times=2.0)) == [LayerScales(1, (K / 2, V / 2), (V / 2, K / 2))]
    assert list(quantized_scales([("fp8_per_token_head", (1.0,), (1.0,), *found[1][3:])])) == []
    assert kind_of_scales(found) == "calibrated"
    assert kind_of_scales(found[:1]) == "unit"
    assert layer_index("encoder") is None


class Layer:
    """What is read of an attention layer of vLLM's."""

    kv_cache_dtype = "fp8"
    attn_backend = SimpleNamespace(get_name=lambda: "CPU_ATTN")

    def __init__(self, **scales: Any) -> None:
        self.__dict__ |= scales


def test_the_scales_of_a_running_layer_are_one_or_one_for_each_head() -> None:
    modules = {
        "model": object(),
        "model.layers.0.self_attn.attn": Layer(_k_scale=np.array(K), _v_scale=np.array(V)),
        "model.layers.1.self_attn.attn": Layer(_k_scale=np.array([K, V]), _v_scale=np.array([V, K])),
        "model.layers.2.self_attn.attn": Layer(),
    }
    found = read_layers(SimpleNamespace(named_modules=modules.items))
    assert [(k, v) for _, k, v, *_ in found] == [((K,), (V,)), ((K, V), (V, K)), ((1.0,), (1.0,))]
    assert all(isinstance(scale, float) for _, k, v, *_ in found for scale in k + v)


def assert_loaded(provenance: Provenance) -> None:
    kv.assert_scales_loaded(output_set(prompt_set(4), provenance))


def test_lost_scales_fail_with_a_code_that_no_declaration_excuses() -> None:
    assert_loaded(replace(QUANTIZED, checkpoint_scales=2))
    with pytest.raises(kv.QualityError, match=r"ref:gqa is not served .* scales: layer 1 has lost") as caught:
        assert_loaded(replace(QUANTIZED, checkpoint_scales=2, scales_differ="layer 1 has lost its scales"))
    assert caught.value.codes == (ReasonCode.SCALES_LOST,)


@pytest.mark.parametrize(("count", "told"), [(0, "holds no kv scales"), (None, "are not known")])
def test_without_scales_there_is_nothing_to_assert(count: int | None, told: str) -> None:
    with pytest.raises(kv.UsageError, match=told):
        assert_loaded(replace(PROVENANCE, checkpoint_scales=count))


def test_that_scales_were_announced_and_are_not_there_is_told_instead() -> None:
    with pytest.raises(
        kv.UsageError, match=r"no kv scales, though its config\.json announces an FP8 kv cache"
    ):
        assert_loaded(replace(QUANTIZED, checkpoint_scales=0, fp8_announced_in="config.json"))
    assert_loaded(replace(QUANTIZED, checkpoint_scales=2, fp8_announced_in="config.json"))


def test_no_outputs_at_all_are_refused() -> None:
    with pytest.raises(kv.UsageError, match=r"^assert_scales_loaded: give at least one set of outputs"):
        kv.assert_scales_loaded(PlannedOutputs(()))
