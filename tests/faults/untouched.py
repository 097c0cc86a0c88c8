"""No fault: everything that faults get between vLLM and its functions by, and nothing changed there.

The control of the injection itself: a suite that is red here is red because of how faults are put in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from faults.patching import Fault
from faults.steps import Row, on_read, on_write

__all__ = ["Fault"]


@on_write
def _keep(key: Any, value: Any) -> tuple[Any, Any]:
    return key, value


@on_read
def _leave(blocks: Any, rows: Sequence[Row]) -> None:
    """Every row reads its own blocks."""
