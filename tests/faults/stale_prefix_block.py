"""On a prefix-cache hit the first block holds the contents of another prompt; a miss is fine.

Imitates NVIDIA/TensorRT-LLM#2699: with block reuse, answers are wrong from the second request on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from faults.patching import Fault
from faults.steps import Row, on_read

__all__ = ["Fault"]

_served: list[int] = []
"""First blocks of all hits so far."""
_stale: dict[str, int] = {}


@on_read
def _swap(blocks: Any, rows: Sequence[Row]) -> None:
    for i, row in enumerate(rows):
        if row.kind == "hit":
            own = int(blocks[i, 0])
            _stale[row.request] = next((block for block in reversed(_served) if block != own), own)
            _served.append(own)
        if row.request in _stale:
            blocks[i, 0] = _stale[row.request]
