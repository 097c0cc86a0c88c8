"""A cached block that decoding filled, not a prompt, comes back as another one on a prefix-cache hit.

Imitates vllm-project/vllm#38652: single turns are fine, and the next turn, whose history holds the first
answer, is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from faults.patching import Fault
from faults.steps import Row, on_read

__all__ = ["Fault"]

_answers: set[int] = set()
"""Blocks whose last token was decoded."""
_wrong: dict[str, set[int]] = {}
"""For each request, which of its blocks come back wrong."""


@on_read
def _swap(blocks: Any, rows: Sequence[Row]) -> None:
    for i, row in enumerate(rows):
        if row.kind == "hit":
            hits = blocks[i, : row.full_blocks].tolist()
            _wrong[row.request] = {place for place, block in enumerate(hits) if block in _answers}
        if row.kind == "decode":
            _answers.add(int(blocks[i, row.full_blocks]))
        else:
            _answers.difference_update(blocks[i, row.full_blocks :].tolist())
    first = blocks[:, 0].tolist()
    for i, row in enumerate(rows):
        for place in _wrong.get(row.request, ()):
            blocks[i, place] = first[i - 1]
