"""Prompt files of a team's own, for the tests of what they may hold and of how they are refused."""

from __future__ import annotations

from pathlib import Path

GOOD = '{"id": "a", "kind": "chat", "text": "Once upon a time"}'


def write(folder: Path, *lines: str, name: str = "mine.jsonl") -> str:
    """Write a prompt file and return its path."""
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)
