"""Redrawn: a pytest plugin that gives the suites other prompts, in another order, under the same names.

    pytest suites -p matrix.redrawn --redrawn=SEED ...

An identical rerun on a processor gives identical outputs and proves nothing. A set of the smoke tier gets as
many prompts of its counterpart in the full tier, which are others but for ``smoke-conditions``, with its own
sampling; the sets that have none, and those of the full tier, do without an eighth of their own. What is
drawn depends on the seed and on each prompt's id alone, so that sets which borrow from one another still do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_kvcache import prompts
from pytest_kvcache.records import Prompt, PromptSet

COUNTERPARTS = {
    "smoke": "full",
    "smoke-conditions": "full-conditions",
    "smoke-penalised": "full-penalised",
    "smoke-structured": "full-structured",
    "smoke-tasks": "full-tasks",
    "smoke-turns": "full-turns",
}
LEFT_OUT = 8
"""One prompt in so many, of sets without a counterpart."""

Read = Callable[[Path], PromptSet]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--redrawn", type=int, required=True, metavar="SEED", help="draw other prompts")


def pytest_configure(config: pytest.Config) -> None:
    prompts._read = Redrawing(prompts._read, config.option.redrawn)


class Redrawing:
    """Reads shipped prompt sets and draws from them."""

    def __init__(self, read: Read, seed: int) -> None:
        self._read = read
        self._seed = seed
        self._borrowing = False

    def __call__(self, path: Path) -> PromptSet:
        if self._borrowing:  # a set is read for the one that borrows its prompts, which picks some by id
            return self._read(path)
        self._borrowing = True
        try:
            return self._drawn(path)
        finally:
            self._borrowing = False

    def _drawn(self, path: Path) -> PromptSet:
        shipped = self._read(path)
        other = COUNTERPARTS.get(shipped.name)
        if other is None:
            kept = [prompt for prompt in shipped.prompts if self._rank("left out", prompt) % LEFT_OUT]
        else:
            kept = self._of_counterpart(path, other)[: len(shipped.prompts)]
        return replace(shipped, prompts=self._in_order(shipped.name, kept))

    def _of_counterpart(self, path: Path, name: str) -> list[Prompt]:
        """Return its prompts in the order of drawing; those that are penalised too come first."""
        pool = self._read(path.with_stem(name)).prompts
        drawn = self._in_order("drawn", pool)
        if name != "full":
            return list(drawn)
        half = len(self._read(path.with_stem("smoke-penalised")).prompts)
        penalised = self._of_counterpart(path, "full-penalised")[:half]
        return [*penalised, *(prompt for prompt in drawn if prompt not in penalised)]

    def _in_order(self, purpose: str, pool: Sequence[Prompt]) -> tuple[Prompt, ...]:
        return tuple(sorted(pool, key=lambda prompt: self._rank(purpose, prompt)))

    def _rank(self, purpose: str, prompt: Prompt) -> int:
        text = f"{self._seed}\n{purpose}\n{prompt.id}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
