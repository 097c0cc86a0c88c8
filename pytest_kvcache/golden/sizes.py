"""Sizes: what the text of a golden may come to, known before an engine runs, and what nobody reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from pytest_kvcache.golden.layout import sealed
from pytest_kvcache.golden.parsing import MAX_TEXT_BYTES
from pytest_kvcache.records import PromptSet

READABLE_BYTES = 300_000
"""The most that a reviewer is thought to look through."""

TOKEN_BYTES = 16
"""What a token takes: its id with six digits and a comma, and nine bytes of text, twice what is usual."""
_OUTPUT_BYTES = 200
"""What an output takes besides its tokens and its prompt's id."""
_HEAD_BYTES = 10_000
"""What model, engine and provenance take."""


def largest_text(prompt_set: PromptSet) -> int:
    """Return the bytes of a golden's text if all that is written were as long as it may be."""
    tokens = prompt_set.sampling.max_tokens
    outputs = sum(len(prompt.id) + _OUTPUT_BYTES + TOKEN_BYTES * tokens for prompt in prompt_set.prompts)
    return _HEAD_BYTES + len(sealed({"prompt_set": asdict(prompt_set)})) + outputs


def too_large(prompt_set: PromptSet) -> str | None:
    """Return why a golden of these prompts may become too large to be kept; None if it will not.

    Its sidecar never is the reason: what such a text accounts for is within the sidecar's limit.
    """
    size = largest_text(prompt_set)
    if size <= MAX_TEXT_BYTES:
        return None
    prompts, tokens = len(prompt_set.prompts), prompt_set.sampling.max_tokens
    return (
        f"{prompts:,} prompts and texts of up to {tokens:,} tokens may come to {size / 1e6:,.1f} MB, "
        f"and {MAX_TEXT_BYTES / 1e6:,.1f} MB is the most"
    )


def size_notes(texts: Iterable[Path]) -> list[str]:
    """Return a line for each text file that is larger than anybody reads."""
    sizes = {path: path.stat().st_size for path in texts}
    return [
        f"{path} has {size / 1000:,.0f} kB, more than a reviewer reads: split its prompt set"
        for path, size in sizes.items()
        if size > READABLE_BYTES
    ]
