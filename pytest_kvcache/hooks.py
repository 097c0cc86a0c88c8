"""Hooks that other plugins and conftest files may implement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_kvcache.engines import EngineFactory


@pytest.hookspec(firstresult=True)
def pytest_kvcache_engine_factory(config: pytest.Config, timeout: float) -> EngineFactory | None:
    """Return what starts the engines of this run, in place of vLLM in a child process.

    ``timeout``: the longest time in seconds that one step of an engine may take (``--kv-timeout``).
    If the factory has an attribute ``program``, a text that is another one wherever it starts something
    else, then what its engines give may be kept across runs.
    """
