"""Damage: what is wrong with a golden, before it is known which file it lies in."""

from __future__ import annotations

RESTORE = "take it back from version control (git checkout), or write it anew (kvcache golden refresh)"


class DamageError(ValueError):
    """A golden cannot be read as it was written. ``str()`` is the problem, without its place."""

    def __init__(self, problem: str, advice: str = RESTORE) -> None:
        super().__init__(problem)
        self.advice = advice
