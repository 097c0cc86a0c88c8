"""Messages: what failed, by name, and the first three of it to be seen."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_kvcache.assertions.arguments import Case
from pytest_kvcache.findings import AFTER, SHOWN, around
from pytest_kvcache.measures.views import Outputlike, view_output
from pytest_kvcache.records import Signal
from pytest_kvcache.text import listed, printable


def message(what: str, lines: Sequence[tuple[str, str]], total: int) -> str:
    """Say which of ``total`` outputs are ``what``: each line is an output's name with what was found."""
    if total == 1:
        name, line = lines[0]
        return f"{printable(name)} is {what}: {line}"
    head = f"{len(lines)} of {total} outputs are {what}: {listed(name for name, _ in lines)}"
    shown = [f"  {printable(name)}: {line}" for name, line in lines[:SHOWN]]
    return "\n".join([head, *shown])


def findings(found: Sequence[tuple[Case, Signal]]) -> list[tuple[str, str]]:
    """Return the lines for :func:`message` of outputs with their signals."""
    return [(case.name, finding(case.output, signal)) for case, signal in found]


def end_of(output: Outputlike) -> str:
    """Return the last characters of an output's text, to be appended to a line; nothing if it has none."""
    text = view_output(output).text
    return f', it ends in "{printable(text[-AFTER:])}"' if text else ""


def finding(output: Outputlike, signal: Signal) -> str:
    """Return what was found and where, with the text around the place where it begins."""
    found = f"{signal.kind}, {signal.evidence}"
    if signal.kind == "empty":
        return found
    unit = "characters" if signal.unit == "char" else "tokens"
    place = f"{found} ({unit} {signal.start} to {signal.end})"
    text = view_output(output).text
    if text is None or signal.unit != "char":
        return place
    return f'{place} in "{around(text, signal.start)}"'
