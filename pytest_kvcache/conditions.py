"""Serving conditions: circumstances in which an engine must think the same of the same texts.

A prompt may be read from the prefix cache, and so may what was written after it; a text may be alone in the
batch, be prefilled in pieces or preempted, and the model may be compiled. Some conditions are ways of asking
the target's own engine; the others are engine arguments, and so need a *twin*: the same target started once
more, with these arguments besides its own.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pytest_kvcache.records import CHAT_TEMPLATE_KWARGS, Json, Manner

NOT_A_CONDITIONS = ("kv_cache_dtype", "model", "revision", CHAT_TEMPLATE_KWARGS)
"""Engine arguments that make another target, not another condition of the same."""
_COMPILERS = ("c++", "g++", "clang++")


ShownBy = Literal[
    "cached_tokens", "cached_texts", "cut_plainly", "preemptions", "max_num_batched_tokens", "max_num_seqs"
]


@dataclass(frozen=True, slots=True)
class Condition:
    """One way in which a target is served. ``batch`` is the plain one, which others are held against."""

    name: str
    manner: Manner = "batch"
    engine_args: tuple[tuple[str, str], ...] = ()
    """Of its twin, sorted by name, each value as JSON text; none where the target's own engine does it."""
    shown_by: ShownBy | None = None
    """What tells that it came about: a count above 0, more cached tokens than prompts have, a plain batch of
    more tokens than fit into a step, prompts of more tokens than this argument, or a plain batch that takes
    more than one of these."""
    compiles: bool = False

    @property
    def obstacle(self) -> str | None:
        """Why it cannot come about on this machine, in one line; None if it can."""
        if not self.compiles or any(map(shutil.which, (os.environ.get("CXX", ""), *_COMPILERS))):
            return None
        return f"{self.name} needs a C++ compiler, and none of {', '.join(_COMPILERS)} is here: install one"


def condition(name: str, engine_args: Mapping[str, Json]) -> Condition:
    """Return a condition of a team's own. Raises ValueError for arguments that make no condition."""
    for wrong in NOT_A_CONDITIONS:
        if wrong in engine_args:
            raise ValueError(f"a condition may not set {wrong}: that is another target")
    if not engine_args:
        raise ValueError("a condition has at least one engine argument")
    if name in SHIPPED:
        raise ValueError("that is the name of a shipped condition: give it another")
    try:
        return Condition(name, engine_args=_as_texts(engine_args))
    except TypeError as error:
        raise ValueError(f"engine arguments must be JSON values: {error}") from None


def _as_texts(engine_args: Mapping[str, Json]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, json.dumps(value, sort_keys=True)) for name, value in engine_args.items()))


BATCH = Condition("batch")
_CHUNK = {"enable_chunked_prefill": True, "max_num_batched_tokens": 64, "max_num_seqs": 64}
"""vLLM wants room in a step for one token of every sequence."""
_WHOLE = {"enable_chunked_prefill": False, "max_num_batched_tokens": None}
"""vLLM wants room in a step for the longest prompt, and makes it where nothing else is said."""
_SMALL_CACHE = {"block_size": 32, "max_model_len": -1, "num_gpu_blocks_override": 32}
"""Room for 31 blocks, a sequence of 992 tokens; `max_model_len` follows. Many short prompts are admitted
together and outgrow it; of few long ones, which grow by little, none may have to go."""
SHIPPED: Mapping[str, Condition] = {
    each.name: each
    for each in (
        BATCH,
        Condition("again", "again", shown_by="cached_tokens"),
        Condition("alone", "alone", shown_by="max_num_seqs"),
        Condition("continued", "continued", shown_by="cached_texts"),
        Condition("chunked", engine_args=_as_texts(_CHUNK), shown_by="max_num_batched_tokens"),
        Condition("whole", engine_args=_as_texts(_WHOLE), shown_by="cut_plainly"),
        Condition("compiled", engine_args=_as_texts({"enforce_eager": False}), compiles=True),
        Condition("eager", engine_args=_as_texts({"enforce_eager": True})),
        Condition("preempted", engine_args=_as_texts(_SMALL_CACHE), shown_by="preemptions"),
        Condition("uncached", engine_args=_as_texts({"enable_prefix_caching": False})),
    )
}
