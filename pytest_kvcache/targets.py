"""Targets: what a run's settings make of its models, kv dtypes and variants."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

from pytest_kvcache.dtypes import canonical_dtype, check_dtype, check_runnable
from pytest_kvcache.errors import UsageError
from pytest_kvcache.files import slug
from pytest_kvcache.models import check_model, length_of
from pytest_kvcache.plan import Target
from pytest_kvcache.prompts.needles import LONGEST_LIMIT, SHORTEST_LIMIT
from pytest_kvcache.records import EngineSpec, content_key
from pytest_kvcache.settings import MAX

if TYPE_CHECKING:
    from pytest_kvcache.policy import Policy, Variant
    from pytest_kvcache.settings import Settings

FOR_TEXTS = 0.75
"""Share of what an engine serves that the longest texts take. Lengths are about: of texts that are to have
3,200 tokens or more SmolLM2's tokenizer makes up to 1.11 times as many, and Mistral's of 32,000 tokens up to
1.27 times, which just fits."""


def make_targets(settings: Settings, policy: Policy) -> tuple[Target, ...]:
    """Return all targets of a run: for each model the baseline if it was asked for, then the candidates.

    Raises `UsageError` for an unknown dtype, one that cannot run here, and options that contradict
    each other.
    """
    if not settings.dtypes:
        return ()
    if not settings.models:
        raise UsageError(
            "--kv-dtypes was given without a model: add --kv-models=MODEL (or kv_models in the ini file)"
        )
    baseline = _base_dtype(settings.baseline_dtype, policy)
    if settings.baseline_dtype in policy.variants:
        raise UsageError(f"--kv-baseline={settings.baseline} is a variant: the baseline is a plain kv dtype")
    dtypes = {_identity(name, policy): name for name in settings.dtypes_to_run}
    to_start = [] if settings.is_baseline_golden else [baseline]
    check_runnable([*to_start, *(_base_dtype(name, policy) for name in dtypes.values())])
    if set(dtypes) == set(to_start) and not settings.golden_update:
        raise UsageError(
            f"--kv-dtypes={','.join(settings.dtypes)} names only the baseline: "
            f"add a candidate, e.g. --kv-dtypes=fp8,{baseline}"
        )
    for model in settings.models:
        check_model(model)
    names = _model_names(settings.models)
    ordered = sorted(dtypes.values(), key=lambda name: canonical_dtype(name) != baseline)
    targets = tuple(
        _target(model, names[model], name, settings, policy) for model in settings.models for name in ordered
    )
    _check_distinct(targets)
    return targets


def longest_texts(targets: Sequence[Target]) -> int:
    """Return how long texts may be, in tokens, so that all targets and baselines serve them.

    The rest is for the question, the answer, and tokenizers that need more tokens. Raises `UsageError` where
    the length of a model is not known before it is loaded, or is too short for any.
    """
    specs = {spec for target in targets for spec in (target.spec, target.baseline) if spec.golden is None}
    lengths = {spec: _length(spec) for spec in specs}
    tokens = min(LONGEST_LIMIT, int(FOR_TEXTS * min(lengths.values())))
    if tokens < SHORTEST_LIMIT:
        shortest = min(lengths, key=lengths.__getitem__)
        raise UsageError(
            f"--kv-context={MAX}: {shortest.model} serves {lengths[shortest]} tokens, too few for texts of "
            f"{SHORTEST_LIMIT}: leave the long-context suite out"
        )
    return tokens


def _length(spec: EngineSpec) -> int:
    """Return how many tokens an engine is to serve: what it is told, else what its model is made for."""
    told = json.loads(dict(spec.engine_args).get("max_model_len", "null"))
    length = length_of(spec.model) if told is None else told
    if not isinstance(length, int) or length <= 0:
        raise UsageError(
            f"--kv-context={MAX}: how many tokens {spec.model} serves is not known before it is loaded: "
            "give --kv-engine-arg=max_model_len=N, or --kv-context=N"
        )
    return length


def _check_distinct(targets: Sequence[Target]) -> None:
    """Raise `UsageError` for targets that are one engine, or would be reported under one name."""
    for target in targets:
        if target.is_baseline and target.variant:
            raise UsageError(
                f"variant {target.variant} is the same engine as the baseline {target.baseline_id}: "
                "give it engine arguments or another kv dtype"
            )
    for one, other in combinations(targets, 2):
        if one.spec == other.spec:
            raise UsageError(f"{one.id} and {other.id} are one and the same engine: leave one of them out")
        if one.id == other.id:
            raise UsageError(
                f"two targets would both be called {one.id}: rename a variant or model directory"
            )


def _target(model: str, model_name: str, name: str, settings: Settings, policy: Policy) -> Target:
    variant: Variant | None = policy.variants.get(name)
    arguments = dict(settings.engine_args) | dict(policy.template_arguments(model))
    baseline_spec = _spec(model, settings.baseline_dtype, arguments)
    if settings.is_baseline_golden:
        baseline_spec = replace(baseline_spec, golden=baseline_spec.kv_cache_dtype)
    if variant is not None:
        arguments |= {key: json.dumps(value, sort_keys=True) for key, value in variant.engine_args.items()}
    spec = _spec(model, variant.kv_cache_dtype if variant is not None else name, arguments)
    return Target(
        id=f"{model_name}-{name}",
        spec=spec,
        kv_dtype=variant.kv_cache_dtype if variant is not None else name,
        variant=name if variant is not None else None,
        baseline=baseline_spec,
        baseline_id=f"{model_name}-{slug(settings.baseline_name)}",
    )


def _spec(model: str, dtype: str, arguments: dict[str, str]) -> EngineSpec:
    """``revision`` names what is loaded, so it is a field of the spec and not one argument of many."""
    revision = json.loads(arguments.get("revision", "null"))
    rest = tuple(sorted(item for item in arguments.items() if item[0] != "revision"))
    return EngineSpec(model, canonical_dtype(dtype), revision, rest)


def _identity(name: str, policy: Policy) -> str:
    return name if name in policy.variants else check_dtype(name)


def _base_dtype(name: str, policy: Policy) -> str:
    variant = policy.variants.get(name)
    return check_dtype(variant.kv_cache_dtype if variant is not None else name)


def _model_names(models: tuple[str, ...]) -> dict[str, str]:
    """Return a short name for each model, the last part of its path unless two share it."""
    short = {model: slug(model.removeprefix("ref:").rstrip("/").rpartition("/")[2]) for model in models}
    whole = _renamed_where_shared(short, slug)
    return _renamed_where_shared(whole, lambda model: f"{whole[model]}-{content_key(model)[:6]}")


def _renamed_where_shared(names: dict[str, str], rename: Callable[[str], str]) -> dict[str, str]:
    counts = Counter(names.values())
    return {model: rename(model) if counts[name] > 1 else name for model, name in names.items()}
