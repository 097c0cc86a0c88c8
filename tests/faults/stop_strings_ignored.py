"""Stop strings are accepted and never looked for.

Imitates answers that run on past their end (vllm-project/vllm#13133: 140 tokens became over 1000).
"""

from __future__ import annotations

from typing import Any

from vllm.v1.engine import detokenizer

from faults.patching import Fault, around

__all__ = ["Fault"]


@around(detokenizer, "check_stop_strings")
def _find_none(_check: Any, *_args: Any, **_kwargs: Any) -> None:
    return None
