"""Serving: what a target gives the same texts under serving conditions, and whether these came about."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pytest_kvcache.conditions import BATCH, Condition
from pytest_kvcache.engines.following import first_part
from pytest_kvcache.errors import ConditionError, EngineError
from pytest_kvcache.plan import Target, scored_sets
from pytest_kvcache.records import (
    OutputSet,
    PlannedConditions,
    PlannedScores,
    PromptSet,
    Provenance,
    ScoreSet,
)
from pytest_kvcache.session import Session

_RESOLVED: Mapping[str, str] = {
    "block_size": "block_size",
    "enable_chunked_prefill": "chunked_prefill",
    "enable_prefix_caching": "prefix_caching",
    "enforce_eager": "enforce_eager",
    "max_model_len": "max_model_len",
    "max_num_batched_tokens": "max_num_batched_tokens",
    "max_num_seqs": "max_num_seqs",
}
"""Engine arguments, and the fields of `Provenance` that say what became of them."""
_BACKENDS = frozenset({"attention_backend", "attention_config"})
"""Engine arguments by which a condition may ask for another attention backend than the target's."""
_CHOSEN_BY_VLLM = (-1, None)
"""As an argument: whatever fits."""


def planned_conditions(
    session: Session, target: Target, prompt_sets: Sequence[PromptSet], conditions: Sequence[Condition]
) -> PlannedConditions:
    """Return a target's scores of its baseline's texts in a plain batch and under each condition.

    Raises `ConditionError` for a condition that cannot come about here, `EngineError` for one that could and
    did not, `UsageError` if no set is scored, and as `Session.scores_under` does.
    """
    scored = scored_sets(prompt_sets, "kv_conditions, e.g. smoke-conditions")
    for condition in conditions:
        _check_possible(target, condition)
    texts = [session.outputs(target.of_baseline(), prompt_set) for prompt_set in scored]
    plain = [session.scores_under(target, prompt_set, BATCH) for prompt_set in scored]
    for entry, written in zip(plain, texts, strict=True):
        session.check_resolved(target, _resolved(entry))
        for condition in conditions:
            _check_other_than_resolved(target, condition, _resolved(entry))
            _check_plain_batch(condition, _Served(entry, written, _resolved(entry)))
    planned = {BATCH.name: PlannedScores(tuple(plain))}
    for condition in conditions:
        scores = tuple(session.scores_under(target, prompt_set, condition) for prompt_set in scored)
        for entry, written, before in zip(scores, texts, plain, strict=True):
            _check_came_about(target, condition, _Served(entry, written, _resolved(before)))
        planned[condition.name] = PlannedScores(scores)
    return PlannedConditions(tuple(planned.items()))


def _check_possible(target: Target, condition: Condition) -> None:
    if condition.obstacle:
        raise ConditionError(condition.obstacle)
    if condition.engine_args and target.under(condition).spec == target.spec:
        raise _served_so_anyway(target, condition)


def _check_other_than_resolved(target: Target, condition: Condition, resolved: Provenance) -> None:
    """Raise `ConditionError` where vLLM chose for the target itself all that the condition asks for."""
    given = ((_RESOLVED.get(name), json.loads(value)) for name, value in condition.engine_args)
    asked = [(name, value) for name, value in given if value is not None]
    if asked and all(name and getattr(resolved, name) == value for name, value in asked):
        raise _served_so_anyway(target, condition)


def _check_plain_batch(condition: Condition, served: _Served) -> None:
    """Raise `ConditionError` where the plain batch tells that nothing can be seen, before a twin starts."""
    match condition.shown_by:
        case "cached_tokens" | "cached_texts":
            _check_caches(served)
        case "max_num_seqs":
            _check_batches(served)
        case "cut_plainly":
            _check_cut_plainly(served)


def _served_so_anyway(target: Target, condition: Condition) -> ConditionError:
    return ConditionError(f"{target.id} is served as {condition.name} asks anyway: nothing to compare")


class _Served(NamedTuple):
    """What one engine gave the texts of one prompt set under a condition."""

    scores: ScoreSet
    texts: OutputSet
    """The baseline's, which it followed."""
    plainly: Provenance
    """What vLLM resolved for the target itself."""


def _resolved(scores: ScoreSet) -> Provenance:
    assert scores.provenance is not None, "an engine that follows says what it is"
    return scores.provenance


def _check_batches(served: _Served) -> None:
    """Raise `ConditionError` where every sequence is alone, also in a plain batch."""
    if served.plainly.max_num_seqs == 1:
        spec = served.scores.spec
        raise ConditionError(
            f"{spec.model} under {spec.kv_cache_dtype} takes one sequence at a time (max_num_seqs): none is "
            "ever in a batch"
        )


def _check_cut_plainly(served: _Served) -> None:
    """Raise `ConditionError` where all prompts fit into one step of the plain batch, so that none was cut."""
    room, name = served.plainly.max_num_batched_tokens, served.scores.prompt_set.name
    tokens = sum(len(output.prompt_token_ids) for output in served.texts)
    if tokens <= room:
        raise ConditionError(
            f"no prompt of {name} is cut in a plain batch either: their {tokens} tokens fit "
            f"into one step of {room}; give more or longer ones, or a smaller max_num_batched_tokens"
        )


def _check_caches(served: _Served) -> None:
    """Raise `ConditionError` where vLLM has resolved prefix caching off."""
    if not served.plainly.prefix_caching:
        spec = served.scores.spec
        raise ConditionError(
            f"vLLM resolved prefix caching off for {spec.model} under {spec.kv_cache_dtype}: nothing is read "
            "from it"
        )


def _check_came_about(target: Target, condition: Condition, served: _Served) -> None:
    """Raise `EngineError` unless the condition showed."""
    _check_blocks(target, condition, served)
    missing = _resolved_otherwise(condition, served) or {
        "cached_tokens": _nothing_cached,
        "cached_texts": _nothing_read_back,
        "preemptions": _nothing_preempted,
        "max_num_batched_tokens": _nothing_cut,
        "max_num_seqs": _nothing_missing,
        "cut_plainly": _nothing_missing,
        None: _nothing_missing,
    }[condition.shown_by](condition, served)
    if missing:
        name = target.under(condition).id
        raise EngineError(f"{name}, {condition.name} of {served.scores.prompt_set.name}: {missing}")


def _check_blocks(target: Target, condition: Condition, served: _Served) -> None:
    """Raise `ConditionError` where the target's attention backend takes no blocks of the condition's size.

    Some take one size alone: vLLM serves the twin by another backend without a word.
    """
    plainly, resolved = served.plainly, _resolved(served.scores)
    size = json.loads(dict(condition.engine_args).get("block_size", "null"))
    moved = plainly.attention_backend != resolved.attention_backend
    if size in (None, plainly.block_size) or not moved or _chooses_backend(condition):
        return
    raise ConditionError(
        f"{condition.name} asks for blocks of {size} tokens, and for these vLLM takes "
        f"{resolved.attention_backend} where it serves {target.id} by {plainly.attention_backend}: give a "
        f"condition of your own with a block_size of {plainly.block_size}"
    )


def _chooses_backend(condition: Condition) -> bool:
    return not _BACKENDS.isdisjoint(name for name, _ in condition.engine_args)


def _resolved_otherwise(condition: Condition, served: _Served) -> str | None:
    """Say what vLLM made of a twin, if that is not what the condition asks of the target."""
    asked = [(_RESOLVED[name], json.loads(text)) for name, text in condition.engine_args if name in _RESOLVED]
    asked.append(("kv_cache_dtype", served.plainly.kv_cache_dtype))
    if not _chooses_backend(condition):
        asked.append(("attention_backend", served.plainly.attention_backend))
    for field, value in asked:
        given = getattr(_resolved(served.scores), field)
        if value not in _CHOSEN_BY_VLLM and given != value:
            return f"vLLM resolved {field} {given} where it asks for {value}: that compares nothing"
    return None


def _nothing_missing(_: Condition, __: _Served) -> None:
    """Of a condition that vLLM's settings prove, or the plain batch."""


def _nothing_cached(_: Condition, served: _Served) -> str | None:
    if served.scores.counts.cached_tokens:
        return None
    block = served.plainly.block_size
    return f"no prompt was read from the prefix cache; give prompts of more than {block} tokens, a block"


def _nothing_read_back(_: Condition, served: _Served) -> str | None:
    block = served.plainly.block_size
    prompts = {output.prompt_id: len(output.prompt_token_ids) for output in served.texts}
    continued = [
        prompts[score.prompt_id]
        for score in served.scores.scores
        if first_part(prompts[score.prompt_id], len(score.token_ids), block) is not None
    ]
    if continued and (served.scores.counts.cached_tokens or 0) > sum(continued):
        return None
    return (
        "nothing that it had decoded was read back from the prefix cache; give longer texts, of more than "
        f"{block} tokens (a block), by max_tokens and by prompts that are answered at length"
    )


def _nothing_preempted(_: Condition, served: _Served) -> str | None:
    preemptions = served.scores.counts.preemptions
    if preemptions:
        return None
    if preemptions is None:
        return (
            "this engine does not tell whether a sequence was preempted, so that nothing is proven; leave "
            "VLLM_ENABLE_V1_MULTIPROCESSING at 0"
        )
    return (
        f"of {len(served.texts)} sequences none was preempted; give more or longer prompts, or a condition "
        "of your own with a smaller num_gpu_blocks_override"
    )


def _nothing_cut(condition: Condition, served: _Served) -> str | None:
    step = int(dict(condition.engine_args)["max_num_batched_tokens"])
    longest = max((len(output.prompt_token_ids) for output in served.texts), default=0)
    if longest > step:
        return None
    return f"its longest prompt of {longest} tokens fits into one step of {step}; give longer ones"
