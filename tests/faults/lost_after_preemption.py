"""A sequence that was preempted and computed again reads another sequence's blocks.

Imitates what preemption by recomputation risks in a full cache: blocks given away and not given back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from faults.patching import Fault
from faults.steps import Row, on_read

__all__ = ["Fault"]

_resumed: set[str] = set()


@on_read
def _lose(blocks: Any, rows: Sequence[Row]) -> None:
    _resumed.update(row.request for row in rows if row.kind == "resumed")
    true = blocks.clone()
    for i, row in enumerate(rows):
        if row.request in _resumed:
            blocks[i, : row.full_blocks] = true[i - 1, : row.full_blocks]
