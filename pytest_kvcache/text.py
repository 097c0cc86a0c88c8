"""Model text made fit to be shown: one line, no control characters, no workflow commands.

What a model writes is hostile input. It can hold escape sequences that repaint a terminal, bidi
controls that reverse what a reviewer reads, and lines that a CI runner obeys (``::add-mask::``).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate

NAMED = 20
"""Names that a line lists before it says how many more there are."""

_COMMAND = re.compile(r"\A(\s*):(?=:)|#(?=#\w*\[)")
"""What a CI runner obeys: ``::`` opening a line (blanks before it do not protect), and the older
``##[command]`` and ``##vso[command]`` anywhere in it."""


def printable(text: str, limit: int | None = None) -> str:
    """Return ``text`` as one harmless line of at most ``limit`` characters.

    Everything that :meth:`str.isprintable` refuses (C0 and C1 controls, line breaks, bidi and other
    format controls, lone surrogates, unassigned code points, blanks other than the space) becomes a
    backslash escape: a newline reads ``\\n``, ESC reads ``\\x1b``. The first character of a workflow
    command is escaped, too. Backslashes stay as they are, so ``printable`` of a printable text is
    that text. What had to be cut off is marked by a final ``…``; no escape is cut in two.
    """
    if limit is None:
        return "".join(_disarmed(text))
    pieces = _disarmed(text[: limit + 1])
    ends = list(accumulate(map(len, pieces)))
    if not ends or ends[-1] <= limit:
        return "".join(pieces)
    return ("".join(pieces[: bisect_right(ends, limit - 1)]) + "…")[:limit]


def listed(names: Iterable[str], limit: int = NAMED) -> str:
    """Return names one after the other as one harmless line: the first ``limit``, and how many more."""
    every = list(names)
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(map(printable, every[:limit])) + more


def _disarmed(text: str) -> list[str]:
    chars = [char if char.isprintable() else _escaped(char) for char in text]
    for command in _COMMAND.finditer(text):
        chars[command.end() - 1] = f"\\x{ord(text[command.end() - 1]):02x}"
    return chars


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
