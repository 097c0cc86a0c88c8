"""In a batch every second sequence reads its neighbour's first block; alone a sequence is fine.

Imitates batches whose requests leak into each other, as in vllm-project/vllm#37554: invented input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from faults.patching import Fault
from faults.steps import Row, on_read

__all__ = ["Fault"]


@on_read
def _leak(blocks: Any, rows: Sequence[Row]) -> None:
    pairs = len(rows) // 2
    blocks[1 : 2 * pairs : 2, 0] = blocks[0 : 2 * pairs : 2, 0]
