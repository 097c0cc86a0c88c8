"""Tiers: the full tier costs minutes more, so it runs only where ``-m`` asks for it."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "kv_full" in config.option.markexpr:
        return
    full = [item for item in items if item.get_closest_marker("kv_full") and _is_shipped(item)]
    if full:
        config.hook.pytest_deselected(items=full)
        items[:] = [item for item in items if item not in full]


def _is_shipped(item: pytest.Item) -> bool:
    return item.path.is_relative_to(__file__.rpartition("/")[0])
