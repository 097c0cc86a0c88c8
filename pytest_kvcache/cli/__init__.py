"""The command ``kvcache``.

Exit status: 0 fine, 1 a finding, 2 used wrongly or could not run. Results go to standard output,
as JSON with ``--json``; progress and errors, one line each, to standard error.
"""

from __future__ import annotations

import argparse
import os
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING

from pytest_kvcache.cli import _golden, _models
from pytest_kvcache.cli._common import UNUSABLE, say
from pytest_kvcache.errors import KvCacheError
from pytest_kvcache.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

INTERRUPTED = 130
UNREAD = 141
"""As a shell tells of a program whose reader has left, e.g. ``kvcache golden verify | head -1``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``kvcache`` with ``argv`` (default: the process's arguments) and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _run(argv)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # What is still in the buffer must not be tried again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = _parser().parse_args(argv)
        run: Callable[[argparse.Namespace], int] = arguments.run
        return run(arguments)
    except KvCacheError as error:
        say(f"kvcache: {redact(str(error))}")
        return UNUSABLE
    except KeyboardInterrupt:
        say("kvcache: interrupted")
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kvcache",
        description="Check whether a model is still safe with a quantized KV cache.",
        epilog="Exit status: 0 fine, 1 a finding, 2 used wrongly or could not run.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _golden.add_to(commands)
    _models.add_to(commands)
    return parser
