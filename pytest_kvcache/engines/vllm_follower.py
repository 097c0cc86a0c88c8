"""The follower: a logits processor under which vLLM writes a given text and nothing else.

vLLM loads it by its name, in whichever of its processes samples. The log-probabilities that a request
asks for are taken before it, so they are those of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

from pytest_kvcache.engines.vllm_scoring import FOLLOWED


class Follower(AdapterLogitsProcessor):  # type: ignore[misc]
    """Leaves requests alone that carry no text to follow."""

    def is_argmax_invariant(self) -> bool:
        return False

    def new_req_logits_processor(self, params: Any) -> Callable[[list[int], Any], Any] | None:
        """Return what masks one request's logits, float[vocabulary], given the tokens written so far."""
        text = (params.extra_args or {}).get(FOLLOWED)
        if text is None:
            return None

        def follow(written: list[int], logits: Any) -> Any:
            logits.fill_(float("-inf"))
            logits[text[len(written)]] = 0.0
            return logits

        return follow
