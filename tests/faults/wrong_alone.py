"""A sequence that has the engine to itself loses its first block; in a batch it is fine.

Imitates kernels with a path of their own for a batch of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from faults.patching import Fault
from faults.steps import Row, on_read

__all__ = ["Fault"]

EMPTY_BLOCK = 0
"""vLLM keeps it for padding: zeros."""


@on_read
def _lose(blocks: Any, rows: Sequence[Row]) -> None:
    if len(rows) == 1:
        blocks[0, 0] = EMPTY_BLOCK
