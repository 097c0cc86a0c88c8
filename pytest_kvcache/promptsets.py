"""Where a run takes its prompt sets from: shipped ones, a team's files, and what the options change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from pytest_kvcache.errors import UsageError
from pytest_kvcache.prompts import is_fixed, load_prompt_set, shipped_prompt_sets
from pytest_kvcache.prompts.needles import long_prompts
from pytest_kvcache.records import PromptSet

LONG_TEXTS = "full-long"


@dataclass(frozen=True, slots=True)
class PromptSource:
    """Loads sets under ``--kv-prompts``, ``--kv-max-tokens`` and ``--kv-context``."""

    own: tuple[PromptSet, ...] = ()
    """At most one of tasks and one of others. Each takes the place of a shipped set's prompts, never of its
    name or sampling; tasks take that of tasks, and sets that were made for a purpose keep theirs."""
    max_tokens: int | None = None
    """Takes the place of a set's own, whoever set it. Tasks keep theirs: half an answer is a wrong one, and
    more room would only give a wrong one further tries."""
    context: Callable[[], int | None] | None = None
    """Returns how long the longest texts of ``full-long`` are, in tokens; None as they are shipped. Called
    only where a test uses them; raises `UsageError` where that cannot be known."""

    def load(self, declared: str | PromptSet, beside: Path, max_tokens: int | None) -> PromptSet:
        """Return a set by its name, file (relative to ``beside``) or itself; ``max_tokens`` is a marker's.

        Raises `UsageError` for a set that does not exist or is malformed.
        """
        is_replaceable = isinstance(declared, str) and declared in _replaceable()
        found = _read(declared, beside, _state(declared, beside)) if isinstance(declared, str) else declared
        if declared == LONG_TEXTS and self.context and (tokens := self.context()) is not None:
            found = replace(found, prompts=long_prompts(tokens))
        own = next((each for each in self.own if each.is_tasks == found.is_tasks), None)
        if own is not None and is_replaceable:
            found = replace(found, prompts=own.prompts)
        limit = max_tokens if self.max_tokens is None or found.is_tasks else self.max_tokens
        return found if limit is None else replace(found, sampling=replace(found.sampling, max_tokens=limit))


def own_sets(files: Sequence[Path]) -> tuple[PromptSet, ...]:
    """Read a team's files: at most one of tasks, and one of prompts without answers.

    Raises `UsageError` for a file that is malformed, and for two of a kind.
    """
    found: dict[bool, tuple[PromptSet, Path]] = {}
    for file in files:
        own = load_prompt_set(str(file))
        if own.is_tasks in found:
            both = f"{found[own.is_tasks][1]} and {file} both hold prompts"
            answers = "with" if own.is_tasks else "without"
            raise UsageError(f"--kv-prompts: {both} {answers} answers: put them into one file")
        found[own.is_tasks] = own, file
    return tuple(own for own, _ in found.values())


@lru_cache(maxsize=1)
def _replaceable() -> frozenset[str]:
    """Return the names of the shipped sets whose place a team's prompts may take."""
    return frozenset(name for name in shipped_prompt_sets() if not is_fixed(name))


@lru_cache(maxsize=64)
def _read(name: str, beside: Path, _as_of: tuple[int, int] | None) -> PromptSet:
    """Read a set once for all tests that declare it, at collection and again in their fixtures."""
    return load_prompt_set(name, base_dir=beside)


def _state(name: str, beside: Path) -> tuple[int, int] | None:
    """Return what tells a file from what it was before, for processes that run pytest more than once."""
    for file in (beside / name, Path(name)):
        with suppress(OSError):
            info = file.stat()
            return info.st_mtime_ns, info.st_size
    return None
