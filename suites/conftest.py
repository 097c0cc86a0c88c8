"""Tiers: what costs minutes more, or measures speed, runs only where ``-m`` asks for it."""

from __future__ import annotations

import pytest

from pytest_kvcache.declarations import ON_REQUEST


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [tier for tier in ON_REQUEST if tier not in config.option.markexpr]
    unasked = [item for item in items if _is_shipped(item) and any(map(item.get_closest_marker, left_out))]
    if unasked:
        config.hook.pytest_deselected(items=unasked)
        items[:] = [item for item in items if item not in unasked]


def _is_shipped(item: pytest.Item) -> bool:
    return item.path.is_relative_to(__file__.rpartition("/")[0])
