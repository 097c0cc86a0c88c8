"""Migration: goldens of older versions, step by step to the version of today."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pytest_kvcache.golden.damage import DamageError, NewerError
from pytest_kvcache.records import Json

VERSION = 2
"""The ``schema_version`` that is written."""


def _from_1(value: dict[str, Json]) -> dict[str, Json]:
    """Return it as it is: version 2 added facts that are not known of an engine of version 1."""
    return value


STEPS: Mapping[int, Callable[[dict[str, Json]], dict[str, Json]]] = {1: _from_1}
"""For each older version that ever was: the decoded file as the next version would have it."""


def migrated(value: dict[str, Json], version: int) -> dict[str, Json]:
    """Return a decoded file of ``version`` as one of :data:`VERSION`.

    Raises DamageError for a version that this one cannot read.
    """
    if version > VERSION:
        raise NewerError(version)
    while version < VERSION:
        if version not in STEPS:
            raise DamageError(f"there never was a schema version {version}")
        value = STEPS[version](value)
        version += 1
    return {**value, "schema_version": VERSION}
