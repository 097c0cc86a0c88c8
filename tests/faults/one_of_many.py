"""In a batch of four and more one sequence reads another one's first block; the others are fine.

Imitates a request that goes wrong under load where its neighbours do not, as in vllm-project/vllm#37554.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from faults.patching import Fault
from faults.steps import Row, on_read

__all__ = ["Fault"]

FEWEST = 4
STRUCK = 2


@on_read
def _leak(blocks: Any, rows: Sequence[Row]) -> None:
    if len(rows) >= FEWEST:
        blocks[STRUCK, 0] = blocks[0, 0]
