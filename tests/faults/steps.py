"""Steps: which requests a step of the engine computes, why, and from which blocks they read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl, CPUAttentionMetadataBuilder
from vllm.v1.worker.cpu_model_runner import CPUModelRunner

from faults.patching import around

Kind = Literal["start", "hit", "chunk", "resumed", "decode"]
"""``start``: its prompt from the beginning; ``hit``: its prompt after what the prefix cache held; ``chunk``:
a further piece of its prompt; ``resumed``: all of it again, after it was preempted; ``decode``: one token."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one step computes of one request."""

    request: str
    kind: Kind
    computed: int
    """Tokens in the cache before the step."""
    full_blocks: int
    """Blocks that those fill."""
    tokens: int
    """Tokens of this step."""


_rows: list[Row] = []
"""Of the step under way, in the batch's order."""


@around(CPUModelRunner, "_prepare_inputs")
def _note_rows(prepare: Any, runner: Any, scheduled: Any, tokens: Sequence[int]) -> Any:
    batch = runner.input_batch
    block_tokens = runner.cache_config.block_size
    new = {request.req_id for request in scheduled.scheduled_new_reqs}
    _rows.clear()
    for i, request in enumerate(batch.req_ids):
        computed = int(batch.num_computed_tokens_cpu[i])
        kind: Kind = "decode"
        if request in scheduled.scheduled_cached_reqs.resumed_req_ids:
            kind = "resumed"
        elif request in new:
            kind = "hit" if computed else "start"
        elif computed < batch.num_prompt_tokens[i]:
            kind = "chunk"
        _rows.append(Row(request, kind, computed, computed // block_tokens, int(tokens[i])))
    return prepare(runner, scheduled, tokens)


def on_read(change: Callable[[Any, Sequence[Row]], None]) -> None:
    """Let ``change`` alter, in every step, the blocks that attention reads: int32[rows, blocks].

    Where keys and values are written stays as it is.
    """

    @around(CPUAttentionMetadataBuilder, "build")
    def build_changed(build: Any, *args: Any, **kwargs: Any) -> Any:
        metadata = build(*args, **kwargs)
        if _rows:
            metadata.block_table = metadata.block_table.clone()
            change(metadata.block_table, _rows)
        return metadata


def on_write(change: Callable[[Any, Any], tuple[Any, Any]]) -> None:
    """Let ``change`` replace, in every layer, the keys and values on their way into the cache.

    They are bfloat16[tokens, heads, head size], the tokens of all rows one after the other.
    """

    @around(CPUAttentionBackendImpl, "do_kv_cache_update")
    def write_changed(
        write: Any, backend: Any, layer: Any, key: Any, value: Any, cache: Any, slots: Any
    ) -> None:
        write(backend, layer, *change(key, value), cache, slots)


def positions() -> Any:
    """Return the place of each of the step's tokens in its sequence: int64[tokens]."""
    return torch.cat([torch.arange(row.computed, row.computed + row.tokens) for row in _rows])


def of_kind(kind: Kind) -> Any:
    """Return which of the step's tokens belong to rows of this kind: bool[tokens]."""
    return torch.cat([torch.full((row.tokens,), row.kind == kind) for row in _rows])
