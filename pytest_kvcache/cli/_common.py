"""What all commands share: exit statuses, options, and the two streams they write to."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from pytest_kvcache.errors import UsageError
from pytest_kvcache.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_kvcache.records import Json

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

FINE, FINDING, UNUSABLE = 0, 1, 2


def add_group(commands: Commands, name: str, about: str) -> Commands:
    """Add a command that is a group of actions; return where its actions are added."""
    group = commands.add_parser(name, help=about, description=about)
    return group.add_subparsers(title="actions", required=True, metavar="ACTION")


def add_action(
    actions: Commands, name: str, about: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """Add an action that ``run`` carries out; return its parser, for what it takes."""
    parser = actions.add_parser(name, help=about, description=about)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)
    return parser


def names(text: str) -> tuple[str, ...]:
    """Return the names of a list, each once. Raises `UsageError` for an empty one."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UsageError(f"the list {text!r} has an empty name: separate names by single commas")
    return tuple(dict.fromkeys(parts))


def seconds(text: str) -> float:
    """Return a time. Raises `UsageError` unless it is a positive number of seconds."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise UsageError(f"{text!r} is no time: give a positive number of seconds")
    return number


def print_json(value: Json) -> None:
    print(json.dumps(value, indent=2))


def print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(printable(line))


def say(line: str) -> None:
    """Write a line of progress, or an error, to standard error."""
    print(printable(line), file=sys.stderr, flush=True)
