"""Surroundings: what the environment says of where a run takes place."""

from __future__ import annotations

from collections.abc import Mapping

_NOT_CI = frozenset({"", "0", "false"})


def is_ci(environ: Mapping[str, str]) -> bool:
    """Whether this is a CI system, which sets ``CI``."""
    return environ.get("CI", "").lower() not in _NOT_CI
