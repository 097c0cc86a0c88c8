"""Where a run takes its prompt sets from: shipped ones, a team's files, and what the options change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pytest_kvcache.errors import UsageError
from pytest_kvcache.prompts import given_sampling, is_fixed, load_prompt_set, shipped_prompt_sets
from pytest_kvcache.prompts.needles import long_prompts
from pytest_kvcache.records import PromptSet
from pytest_kvcache.text import listed, printable

LONG_TEXTS = "full-long"
_PENALTIES = ("repetition_penalty", "frequency_penalty", "presence_penalty")


@dataclass(frozen=True, slots=True)
class OwnPrompts:
    """A team's prompts, and what their file's header says about sampling."""

    prompts: PromptSet
    """Of which the prompts alone take the place of a shipped set's."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Takes the place of a shipped set's, name by name."""

    def in_place_of(self, shipped: PromptSet) -> PromptSet:
        """Return the shipped set with these prompts and this sampling."""
        return replace(
            shipped, prompts=self.prompts.prompts, sampling=replace(shipped.sampling, **self.sampling)
        )


@dataclass(frozen=True, slots=True)
class PromptSource:
    """Loads sets under ``--kv-prompts``, ``--kv-max-tokens`` and ``--kv-context``."""

    own: tuple[OwnPrompts, ...] = ()
    """At most one of tasks and one of others. Each takes the place of a shipped set's prompts, and of so much
    of its sampling as its header says, never of its name; tasks take that of tasks, and sets that were made
    for a purpose keep theirs."""
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
        own = next((each for each in self.own if each.prompts.is_tasks == found.is_tasks), None)
        if own is not None and is_replaceable:
            found = own.in_place_of(found)
        limit = max_tokens if self.max_tokens is None or found.is_tasks else self.max_tokens
        return found if limit is None else replace(found, sampling=replace(found.sampling, max_tokens=limit))


def own_sets(files: Sequence[Path]) -> tuple[OwnPrompts, ...]:
    """Read a team's files: at most one of tasks, and one of prompts without answers.

    Raises `UsageError` for a file that is malformed, for a header that cannot hold for the sets whose place
    its prompts take, and for two of a kind.
    """
    found: dict[bool, tuple[OwnPrompts, Path]] = {}
    for file in files:
        own = OwnPrompts(load_prompt_set(str(file)), given_sampling(str(file)))
        is_tasks = own.prompts.is_tasks
        if is_tasks in found:
            both = f"{found[is_tasks][1]} and {file} both hold prompts"
            answers = "with" if is_tasks else "without"
            raise UsageError(f"--kv-prompts: {both} {answers} answers: put them into one file")
        if not is_tasks:
            _check_penalties(own, file)
        found[is_tasks] = own, file
    return tuple(own for own, _ in found.values())


def _check_penalties(own: OwnPrompts, file: Path) -> None:
    """Raise `UsageError` for penalties: by these the sets that are to be replaced differ from each other."""
    penalties = [name for name in _PENALTIES if name in own.sampling]
    if penalties:
        raise UsageError(
            printable(
                f"--kv-prompts: the header of {file} sets {listed(penalties)}, in which the shipped "
                "sets differ: leave that out, or name the file in the marker of a test of your own"
            )
        )


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
