"""Markdown, as far as the benchmark's pages need it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose cells hold no vertical bars."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code_span(text: str) -> str:
    """Return printable text as a code span: backticks become a letter that looks like one."""
    return f"`{text.replace('`', 'ˋ').strip() or ' '}`"
