"""Settings: whether the engine runs as it was asked to, and but for its cache as the baseline does.

Engines give up features in silence: with a quantized cache prefix caching may go off, or a context may become
shorter. What an engine resolved is in the provenance of its outputs.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pytest_kvcache.assertions.arguments import misuse_of, read_sets
from pytest_kvcache.dtypes import canonical_dtype, is_quantized
from pytest_kvcache.errors import QualityError
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import Json, OutputSet, PlannedOutputs, ReasonCode
from pytest_kvcache.text import printable

SKIPPED_LAYERS = "kv_cache_dtype_skip_layers"
SKIPS_BY_ITSELF = ("turboquant_", "ultraquant_")
"""How kv dtypes begin with which vLLM always keeps the first and last layers as they are."""
PACKED = "_ds_mla"
"""How vLLM ends the name of a kv dtype that latent attention stores in a layout of its own."""
MEMORY = frozenset(
    {"gpu_memory_utilization", "kv_cache_memory_bytes", "num_gpu_blocks_override", "cpu_offload_gb"}
)
"""Engine arguments that say how many tokens the cache holds."""
SAME_MEMORY = 0.95
"""The share of the baseline's tokens that is as many: on a GPU the cache has what memory is left at the start
of an engine, and two starts find some blocks more or less."""
DTYPES = {"half": "float16", "float": "float32"} | {name: name for name in ("float16", "bfloat16", "float32")}
"""The names by which vLLM is asked for a model's dtype, but for ``auto``, and what it resolves them to."""
FORMATS = ("gptq", "awq")
"""Formats of quantized weights that keep their name under whatever kernels vLLM chooses (``gptq_marlin``)."""


def assert_settings_kept(
    output: OutputSet | PlannedOutputs,
    baseline: OutputSet | PlannedOutputs,
    *,
    capacity_gain: float = Limits().capacity_gain,
) -> None:
    """Fail if an engine resolved other settings than it was asked for, or than its baseline.

    Asked for is the kv dtype, and what engine arguments name. Everything else that can be compared (the
    model, its dtype and quantization, its length and chat template, prefix caching, chunked prefill,
    compilation, batch sizes) is to be as in the baseline, unless the two have other engine arguments for it;
    an attention backend may follow the kv dtype, and a length that is fitted to the memory may be longer. A
    quantization is lost where the engine has none, or GPTQ in place of AWQ or the reverse: of other formats
    vLLM has names of its own, which cannot be told apart. The cache is to hold at least as many tokens, and
    a quantized one, in the same memory, ``capacity_gain`` times as many; this is left out where arguments
    about memory differ, and beside a golden, which does not tell. Raises
    :class:`~pytest_kvcache.errors.UsageError` for what is no set of outputs, and a gain below 1.
    """
    __tracebackhide__ = True
    with misuse_of("assert_settings_kept"):
        if not (math.isfinite(capacity_gain) and capacity_gain >= 1):
            raise ValueError(f"capacity_gain must be a number of at least 1, not {capacity_gain!r}")
        ours, theirs = read_sets(output, "output"), read_sets(baseline, "baseline")
        if not (ours and theirs):
            raise ValueError("give at least one set of outputs of each side")
    lost = [*_dtype(ours[0]), *_settings(ours[0], theirs[0]), *_capacity(ours[0], theirs[0], capacity_gain)]
    if lost:
        model = f"{ours[0].spec.model} under {ours[0].spec.kv_cache_dtype}"
        lines = [f"{model} does not run as it was asked to:", *(f"  {printable(line)}" for line in lost)]
        raise QualityError("\n".join(lines), (ReasonCode.SETTING_LOST,))


def _backend(value: Json) -> str | None:
    """Return a backend's name, given by itself or within vLLM's attention settings."""
    named = value.get("backend") if isinstance(value, dict) else value
    return None if named is None else str(named).rpartition(".")[2].upper()


def _model_dtype(value: Json) -> str | None:
    return DTYPES.get(str(value).lower())


def _is_backend(resolved: str, asked: str) -> bool:
    return resolved.upper() == asked


def _is_quantization(resolved: str | None, asked: str) -> bool:
    """Whether a quantization may be the one asked for: surely not if there is none, or of another format."""
    formats = {name for name in FORMATS for method in (resolved, asked) if name in (method or "").lower()}
    return resolved is not None and len(formats) < len(FORMATS)


def _length(value: Json) -> int | None:
    """Return a length in tokens; None for vLLM's -1, by which it is fitted to the memory."""
    length = int(value)
    return length if length > 0 else None


@dataclass(frozen=True, slots=True)
class _Setting:
    name: str
    """Of the field of `Provenance`."""
    arguments: tuple[str, ...] = ()
    """The engine arguments by which it is asked for."""
    asked: Callable[[Json], Any] | None = None
    """Makes of an argument's value what the field is to be; None if that cannot be told."""
    is_given: Callable[[Any, Any], bool] = operator.eq
    """Whether the field's value is what `asked` made."""
    follows_dtype: bool = False
    """Whether another kv dtype may bring another value, so that only one that was asked for can be lost."""
    may_grow: bool = False
    """Whether a larger value than the baseline's is no loss."""

    @property
    def what(self) -> str:
        return self.name.replace("_", " ")


_SETTINGS = (
    _Setting("model_id"),
    _Setting("model_dtype", ("dtype",), _model_dtype),
    _Setting("quantization", ("quantization",), str, _is_quantization),
    _Setting("max_model_len", ("max_model_len",), _length, may_grow=True),
    _Setting("chat_template_sha256", ("chat_template", "tokenizer", "tokenizer_mode")),
    _Setting("prefix_caching", ("enable_prefix_caching",), bool),
    _Setting("chunked_prefill", ("enable_chunked_prefill",), bool),
    _Setting("enforce_eager", ("enforce_eager",), bool),
    _Setting("max_num_seqs", ("max_num_seqs",), int),
    _Setting("max_num_batched_tokens", ("max_num_batched_tokens",), int),
    _Setting(
        "attention_backend",
        ("attention_backend", "attention_config"),
        _backend,
        _is_backend,
        follows_dtype=True,
    ),
)

_OFTEN_UNKNOWN = frozenset({"chunked_prefill", "enforce_eager"})
"""What goldens and older runs do not tell."""


def _dtype(ours: OutputSet) -> Iterator[str]:
    """Say whether the kv dtype is another than was asked for; layers may be left out where that was said."""
    asked = _stored_as(ours.spec.kv_cache_dtype)
    resolved = ours.provenance.kv_cache_dtype
    stored = {_stored_as(dtype) for dtype in resolved.split("+")}
    skips = ours.spec.arguments().get(SKIPPED_LAYERS) or asked.startswith(SKIPS_BY_ITSELF)
    if asked != "auto" and stored != {asked} and not (skips and asked in stored):
        yield f"kv cache dtype: {resolved}, asked for was {asked}"


def _stored_as(dtype: str) -> str:
    return canonical_dtype(dtype.removesuffix(PACKED))


def _settings(ours: OutputSet, theirs: OutputSet) -> Iterator[str]:
    for setting in _SETTINGS:
        yield from _setting(setting, ours, theirs)


def _setting(setting: _Setting, ours: OutputSet, theirs: OutputSet) -> Iterator[str]:
    """Say if a setting is not as asked for, or, where nobody asked, not as the baseline's."""
    mine, other = (getattr(each.provenance, setting.name) for each in (ours, theirs))
    asked, asked_there = ours.spec.arguments(), theirs.spec.arguments()
    wanted = _wanted(setting, asked)
    often_unknown = setting.name in _OFTEN_UNKNOWN
    if mine is None and often_unknown:
        return
    if wanted is not None and not setting.is_given(mine, wanted):
        yield f"{setting.what}: {mine}, asked for was {wanted}"
    elif other is None and often_unknown:
        return
    elif _is_lost(setting, mine, other) and _asked_alike(setting, asked, asked_there):
        yield f"{setting.what}: {mine}, the baseline's is {other}{_remedy(setting)}"


def _is_lost(setting: _Setting, mine: Any, other: Any) -> bool:
    return not setting.follows_dtype and (mine < other if setting.may_grow else mine != other)


def _asked_alike(setting: _Setting, one: dict[str, Json], other: dict[str, Json]) -> bool:
    return all(one.get(name) == other.get(name) for name in setting.arguments)


def _wanted(setting: _Setting, asked: dict[str, Json]) -> Any:
    """Return what the field is to be, None if nothing that can be read was asked for."""
    for value in map(asked.get, setting.arguments):
        if value is not None and setting.asked is not None:
            with suppress(TypeError, ValueError):
                if (wanted := setting.asked(value)) is not None:
                    return wanted
    return None


def _remedy(setting: _Setting) -> str:
    if not setting.arguments:
        return ""
    return f" (if that is wanted, say {setting.arguments[0]} in the engine arguments of a variant)"


def _capacity(ours: OutputSet, theirs: OutputSet, gain: float) -> Iterator[str]:
    """Say if the cache holds too few tokens."""
    mine, other = (each.provenance.kv_capacity_tokens for each in (ours, theirs))
    asked, asked_there = ours.spec.arguments(), theirs.spec.arguments()
    if not (mine and other) or any(asked.get(name) != asked_there.get(name) for name in MEMORY):
        return
    counted = "num_gpu_blocks_override" in asked
    gains = is_quantized(ours.provenance.kv_cache_dtype) and not theirs.provenance.kv_cache_quantized
    whole = gains and not asked.get(SKIPPED_LAYERS) and not counted
    least = other * (gain if whole else SAME_MEMORY)
    if mine < least:
        held = f"kv cache capacity: {mine:,} tokens"
        if whole:
            yield f"{held}, {mine / other:.2f} times the baseline's {other:,} (at least {gain:.2f} times)"
        else:
            yield f"{held}, fewer than the baseline's {other:,}"
