"""Damage: what is wrong with a golden, before it is known which file it lies in."""

from __future__ import annotations

from pytest_kvcache.errors import GoldenError

RESTORE = "take it back from version control (git checkout), or write it anew (pytest --kv-golden-update=all)"


class DamagedError(GoldenError):
    """A golden is damaged, so that nothing is lost if another is written over it."""


class DamageError(ValueError):
    """A golden cannot be read as it was written. ``str()`` is the problem, without its place."""

    error: type[GoldenError] = DamagedError
    """What it becomes once its place is known."""

    def __init__(self, problem: str, advice: str = RESTORE) -> None:
        super().__init__(problem)
        self.advice = advice


class NewerError(DamageError):
    """A golden is whole for all that is known, but of a version that is still to come."""

    error = GoldenError

    def __init__(self, version: int) -> None:
        super().__init__(f"it was written by a newer pytest-kvcache (schema {version})", "upgrade yours")
