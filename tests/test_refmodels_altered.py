"""Reference models for faults of scales and weights: what is changed, and what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_kvcache.refmodels.recipes import (
    RECIPES,
    Amplified,
    Deafened,
    EightBit,
    Qwen2Shape,
    Recast,
    Rewritten,
    Scaled,
)

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors.torch")
transformers = pytest.importorskip("transformers")
alter = pytest.importorskip("pytest_kvcache.refmodels.alter")
layout = pytest.importorskip("pytest_kvcache.refmodels.layout")
scales = pytest.importorskip("pytest_kvcache.refmodels.scales")
samples = pytest.importorskip("refmodel_samples")

if TYPE_CHECKING:
    from pathlib import Path

LAYERS = samples.LAYERS
written, logits = samples.written, samples.logits


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base in the layout of ``gqa``."""
    llama = samples.write_base(tmp_path / "llama")
    written(Rewritten(""), llama, tmp_path / "gqa")
    return tmp_path / "gqa" / "target"


# Amplified


def amplified(model: Any) -> dict[str, Any]:
    tensors: dict[str, Any] = alter.amplified(model.state_dict(), keys=7, values=9)
    return tensors


def test_amplifying_keeps_the_function_bit_for_bit_in_bfloat16() -> None:
    model = samples.small_qwen2(samples.KV_HEADS).bfloat16()
    before = logits(model)
    model.load_state_dict(amplified(model))
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("projection", ["q_proj", "k_proj", "v_proj", "o_proj"])
def test_amplifying_one_projection_alone_does_not(projection: str) -> None:
    model = samples.small_qwen2(samples.KV_HEADS).bfloat16()
    before = logits(model)
    alone = {name: tensor for name, tensor in amplified(model).items() if projection in name}
    model.load_state_dict(alone, strict=False)
    assert not torch.equal(logits(model), before)


def test_the_cache_holds_keys_and_values_as_many_times_as_large(base: Path, tmp_path: Path) -> None:
    _, tensors = written(Amplified("", "gqa", keys=7), base, tmp_path / "keys")
    before = layout.load(base)
    name = "model.layers.1.self_attn.{}_proj.weight".format
    assert torch.equal(tensors[name("k")], before[name("k")] * 128)
    assert torch.equal(tensors[name("v")], before[name("v")])
    assert tensors.keys() == before.keys()


# Scaled


@pytest.fixture
def known_scales(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each layer's keys have scale ``layer + 1``, and its values 0.25."""
    known = (torch.arange(LAYERS) + 1.0, torch.full((LAYERS,), 0.25))
    monkeypatch.setattr(scales, "calibrated", lambda _: known)


def stored_scales(tensors: dict[str, Any], which: str) -> list[float]:
    return [float(tensors[f"model.layers.{layer}.self_attn.{which}_scale"]) for layer in range(LAYERS)]


@pytest.mark.usefixtures("known_scales")
def test_a_scaled_checkpoint_is_its_base_with_scales_that_an_engine_is_told_of(
    base: Path, tmp_path: Path
) -> None:
    config, tensors = written(Scaled("", "gqa"), base, tmp_path)
    assert stored_scales(tensors, "k") == [1, 2, 3, 4]
    assert stored_scales(tensors, "v") == [0.25] * LAYERS
    assert config["quantization_config"]["kv_cache_scheme"]["num_bits"] == 8
    assert all(torch.equal(tensors[name], tensor) for name, tensor in layout.load(base).items())
    assert all((tmp_path / "target" / shard).samefile(base / shard) for shard in layout.shards(base))


@pytest.mark.usefixtures("known_scales")
def test_lost_scales_are_announced_and_not_there(base: Path, tmp_path: Path) -> None:
    config, tensors = written(Scaled("", "gqa", fault="lost"), base, tmp_path)
    assert "kv_cache_scheme" in config["quantization_config"]
    assert tensors.keys() == layout.load(base).keys()


@pytest.mark.usefixtures("known_scales")
def test_swapped_scales_are_those_of_the_other_side(base: Path, tmp_path: Path) -> None:
    _, tensors = written(Scaled("", "gqa", fault="swapped"), base, tmp_path)
    assert stored_scales(tensors, "k") == [0.25] * LAYERS
    assert stored_scales(tensors, "v") == [1, 2, 3, 4]


@pytest.mark.usefixtures("known_scales")
def test_scales_can_be_a_factor_off(base: Path, tmp_path: Path) -> None:
    _, tensors = written(Scaled("", "gqa", factor=1 / 16), base, tmp_path)
    assert stored_scales(tensors, "k") == [1 / 16, 2 / 16, 3 / 16, 4 / 16]


def test_scales_are_the_largest_key_and_value_over_the_largest_e4m3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: samples.AnyTokens())
    model = samples.small_qwen2(samples.KV_HEADS)
    with torch.no_grad():
        for layer, block in enumerate(model.model.layers):
            for projection, largest in ((block.self_attn.k_proj, 56.0), (block.self_attn.v_proj, 7.0)):
                projection.weight.zero_()
                projection.bias.zero_()
                projection.bias[5] = -largest * (layer + 1)
    model.save_pretrained(tmp_path)
    keys, values = scales.calibrated(tmp_path)
    assert keys.tolist() == [0.125, 0.25, 0.375, 0.5]
    assert values.tolist() == [1 / 64, 2 / 64, 3 / 64, 4 / 64]


# Deafened, in eight bits, and shapes


def difference_after_other_beginnings(model: Any) -> float:
    """Return by how much logits after the same token differ for what stood before it."""
    with torch.no_grad():
        one, other = model(torch.tensor([[1, 2, 3], [4, 5, 3]])).logits[:, -1]
    return float((one - other).abs().max())


def test_without_values_a_token_is_all_that_decides_the_next_one() -> None:
    model = samples.small_qwen2(samples.KV_HEADS)
    assert difference_after_other_beginnings(model) > 0.1
    model.load_state_dict(alter.deafened(model.state_dict()))
    assert difference_after_other_beginnings(model) < 1e-3


def test_a_deafened_checkpoint_is_its_base_without_values(base: Path, tmp_path: Path) -> None:
    _, tensors = written(Deafened("", "gqa"), base, tmp_path)
    before = layout.load(base)
    changed = {name for name in before if not torch.equal(tensors[name], before[name])}
    assert changed == {name for name in before if name.endswith("v_proj.weight")}
    assert (tmp_path / "target" / layout.BODY_SHARD).samefile(base / layout.BODY_SHARD)


def test_weights_in_eight_bits_read_back_within_one_rounding(base: Path, tmp_path: Path) -> None:
    config, tensors = written(EightBit("", "gqa"), base, tmp_path)
    projections = {name: tensor for name, tensor in layout.load(base).items() if "_proj.weight" in name}
    assert config["quantization_config"]["config_groups"]["group_0"]["weights"]["strategy"] == "channel"
    for name, weight in projections.items():
        read = tensors[name].float() * tensors[f"{name}_scale"].float()
        # Half a unit in the last of e4m3's three bits of mantissa; below its normal numbers, half of 2 ** -9.
        bound = torch.maximum(weight.float().abs() * 2**-4, tensors[f"{name}_scale"].float() * 2**-10)
        assert ((read - weight.float()).abs() <= bound * 1.01).all()
    assert tensors["model.embed_tokens.weight"].dtype == torch.bfloat16


def test_a_recast_checkpoint_is_its_base_in_float16(base: Path, tmp_path: Path) -> None:
    config, tensors = written(Recast("", "gqa"), base, tmp_path)
    assert config == layout.read_config(base) | {"dtype": "float16"}
    before = layout.load(base)
    assert tensors.keys() == before.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.float16
        assert torch.equal(tensor, before[name].to(torch.float16))


@pytest.mark.parametrize(("name", "head_size"), [("qwen2-0.5b-shape", 64), ("qwen2-7b-shape", 128)])
def test_a_shape_has_the_heads_of_its_model_and_no_weights(
    name: str, head_size: int, base: Path, tmp_path: Path
) -> None:
    recipe = RECIPES[name]
    assert isinstance(recipe, Qwen2Shape)
    config, tensors = written(recipe, base, tmp_path)
    assert config["hidden_size"] == config["num_attention_heads"] * head_size
    assert config["num_attention_heads"] // config["num_key_value_heads"] == 7
    assert tensors == {}
