"""An fp8 cache is asked for and silently kept in the model's dtype: whatever is tested, it is not fp8.

Imitates rwlove/home-ops#13384, for the feature that the test is about.
"""

from __future__ import annotations

from typing import Any

from faults.configuration import after_parsing
from faults.patching import Fault

__all__ = ["Fault"]


@after_parsing
def _fall_back(config: Any) -> None:
    config.cache_config.cache_dtype = "auto"
