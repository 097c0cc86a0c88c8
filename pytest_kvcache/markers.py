"""The marker ``kv_sensitive``: what a test declares about its prompts and targets.

The marker's keywords are the fields of `KvSensitive`; a keyword that is none of them is a usage error.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

from pytest_kvcache.conditions import SHIPPED, Condition, condition
from pytest_kvcache.dtypes import canonical_dtype
from pytest_kvcache.errors import UsageError
from pytest_kvcache.plan import Target
from pytest_kvcache.records import Json, PromptSet

Prompts = str | PathLike[str] | PromptSet

DEFAULT_PROMPTS = "smoke"


@dataclass(frozen=True, slots=True)
class KvSensitive:
    """``prompts``: a shipped prompt set's name, a ``.jsonl`` file beside the test, a `PromptSet`, or several
    of these. ``max_tokens`` overrides the sets' own. ``dtypes`` and ``models`` narrow what the command
    line gives; they never add to it. ``conditions`` names serving conditions, shipped ones in a list, or a
    test's own in a mapping from their names to engine arguments."""

    prompts: Prompts | Sequence[Prompts] = DEFAULT_PROMPTS
    max_tokens: int | None = None
    dtypes: Sequence[str] | None = None
    models: Sequence[str] | None = None
    conditions: Sequence[str] | Mapping[str, Mapping[str, Json]] = ()

    @classmethod
    def from_arguments(cls, where: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> KvSensitive:
        """Build it from a mark's arguments; raise `UsageError` naming the test for what does not fit."""
        if args:
            raise UsageError(
                f"{where}: kv_sensitive takes keywords only, e.g. kv_sensitive(prompts={args[0]!r})"
            )
        try:
            marker = cls(**kwargs)
        except TypeError as error:
            known = ", ".join(cls.__slots__)
            raise UsageError(
                f"{where}: {str(error).partition('() ')[2]} (kv_sensitive takes: {known})"
            ) from None
        for name in ("dtypes", "models", "conditions"):
            if not _are_names(getattr(marker, name)):
                raise UsageError(f"{where}: kv_sensitive({name}=...) takes a list, e.g. {name}=['...']")
        if not _are_prompts(marker.prompts):
            raise UsageError(
                f"{where}: kv_sensitive(prompts=...) takes the name of a set, a .jsonl file, a PromptSet, "
                "or a list of these"
            )
        tokens: Any = marker.max_tokens
        if tokens is not None and not (isinstance(tokens, int) and tokens >= 1):
            raise UsageError(f"{where}: kv_sensitive(max_tokens=...) takes a positive number of tokens")
        try:
            marker.serving_conditions()
        except ValueError as error:
            raise UsageError(f"{where}: kv_sensitive(conditions=...): {error}") from None
        return marker

    @property
    def prompt_sets(self) -> tuple[str | PromptSet, ...]:
        """The declared sets, files by their path as text."""
        declared = [self.prompts] if isinstance(self.prompts, str | PathLike | PromptSet) else self.prompts
        return tuple(os.fspath(s) if isinstance(s, PathLike) else s for s in declared)

    def serving_conditions(self) -> tuple[Condition, ...]:
        """Return the declared conditions. Raises ValueError for one that does not exist or makes none."""
        declared: Any = self.conditions or ()
        if isinstance(declared, Mapping):
            if not all(map(_are_arguments, declared.values())):
                raise ValueError("in a mapping every name has engine arguments, a mapping too")
            return tuple(condition(name, arguments) for name, arguments in declared.items())
        for name in declared:
            if name not in SHIPPED:
                raise ValueError(f"there is no {name!r}; there are {', '.join(SHIPPED)}")
        return tuple(SHIPPED[name] for name in declared)

    def admits(self, target: Target) -> bool:
        """Whether the test is to run on a target, by its dtype (or variant) and model."""
        if self.models is not None and target.spec.model not in self.models:
            return False
        if self.dtypes is None:
            return True
        names = {target.variant or canonical_dtype(target.kv_dtype)}
        return bool(names & {canonical_dtype(name) for name in self.dtypes})


def _are_names(value: Any) -> bool:
    """Whether it is a list of names, a mapping from names, or nothing."""
    if value is None:
        return True
    several = isinstance(value, list | tuple | set | frozenset | Mapping)
    return several and all(isinstance(name, str) and name.strip() for name in value)


def _are_arguments(value: Any) -> bool:
    return isinstance(value, Mapping) and _are_names(value)


def _are_prompts(value: Any) -> bool:
    if isinstance(value, str | PathLike | PromptSet):
        return True
    return isinstance(value, list | tuple) and bool(value) and all(map(_are_prompts, value))
