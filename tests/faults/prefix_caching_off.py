"""Prefix caching is asked for and silently off.

Imitates rwlove/home-ops#13384: with an fp8 cache nothing came from the prefix cache any more.
"""

from __future__ import annotations

from typing import Any

from faults.configuration import after_parsing
from faults.patching import Fault

__all__ = ["Fault"]


@after_parsing
def _turn_off(config: Any) -> None:
    config.cache_config.enable_prefix_caching = False
