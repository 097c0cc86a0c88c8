"""Seeding: a golden takes the place of an engine's run by what it holds being copied into the run store."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from pytest_kvcache.errors import GoldenError
from pytest_kvcache.golden_diff import told_arguments
from pytest_kvcache.plan import Texts
from pytest_kvcache.records import CHAT_TEMPLATE_KWARGS, EngineSpec, Golden, PromptSet
from pytest_kvcache.store import RunStore

FindGolden = Callable[[EngineSpec, PromptSet], Golden]
"""Finds what the engine of a golden once wrote for a set; raises `GoldenError` where it cannot."""


def no_goldens(spec: EngineSpec, prompt_set: PromptSet) -> Golden:
    """Find no golden, for a session that is given none."""
    raise GoldenError(f"there is no golden of {prompt_set.name} by {spec.model}: this session reads none")


def seed(store: RunStore, texts: Texts, find: FindGolden) -> None:
    """Copy a golden into the run store, or keep why that cannot be. Once is enough.

    Workers may do so at once, for they copy the same. Its outputs come last: where they are, all is.
    """
    spec, prompt_set = texts.writer, texts.prompt_set
    if store.has_outputs(spec, prompt_set) or store.failure(spec, prompt_set) is not None:
        return
    try:
        golden = find(spec, prompt_set)
    except GoldenError as error:
        store.put_failure(spec, str(error), prompt_set)
        return
    asked = replace(spec, golden=None)
    if otherwise := _told_otherwise(golden.outputs.spec, asked):
        store.put_failure(spec, f"the golden of {prompt_set.name} by {spec.model} {otherwise}", prompt_set)
        return
    if otherwise := told_arguments(golden.outputs.spec, asked):
        store.put_note(
            f"the golden of {prompt_set.name} by {spec.model} was made otherwise than engines run now: "
            f"{otherwise}"
        )
    for scores, put in ((golden.scores, store.put_scores), (golden.floor, store.put_floor)):
        if scores is not None:
            put(replace(scores, spec=spec, prompt_set=prompt_set, text_of=spec.key))
    wrote = replace(golden.outputs.spec, golden=spec.golden)
    store.put_outputs(replace(golden.outputs, spec=wrote, prompt_set=prompt_set), under=spec)


def _told_otherwise(then: EngineSpec, now: EngineSpec) -> str | None:
    """Say if the chat template was told something else: the same messages became another question."""
    before, after = then.template_arguments(), now.template_arguments()
    if before == after:
        return None
    return (
        f"was made with {CHAT_TEMPLATE_KWARGS} {json.dumps(before)} and the policy gives "
        f"{json.dumps(after)}: make it again (--kv-golden-update=all)"
    )
