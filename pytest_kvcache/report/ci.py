"""What a CI system shows: GitHub's step summary, and properties for the JUnit file pytest writes.

Prompts and outputs are confidential, so neither quotes them beyond the reasons of the verdicts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pytest_kvcache.records import Verdict, VerdictKind
from pytest_kvcache.report.results import Results
from pytest_kvcache.report.table import (
    HEADER,
    cached,
    candidate,
    failed_engines,
    gain,
    golden,
    headline,
    next_step,
    rows,
    speeds,
)
from pytest_kvcache.text import printable

SUMMARY_LIMIT = 1024 * 1024
"""Bytes that GitHub accepts as the summary of one step; it drops what is longer."""

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"

_MARKS = {
    VerdictKind.PASS: "✅",
    VerdictKind.KNOWN_BAD: "⚠️",
    VerdictKind.FAIL: "❌",
    VerdictKind.INCONCLUSIVE: "❌",
}
_CUT = "\n_The rest was left out: it is longer than GitHub shows._\n"
_ACTIVE = re.compile(r"[\\`*_\[\]<>&|#~$@:]")
"""ASCII that Markdown, HTML or GitHub (mentions, links, emoji, formulas) could read as markup."""


def github_summary(results: Results, limit: int = SUMMARY_LIMIT) -> str:
    """Return a Markdown summary of at most ``limit`` bytes: one table, then the reasons.

    Raises :class:`ValueError` if ``limit`` leaves no room at all.
    """
    text = "\n".join(_summary(results)) + "\n"
    if len(text.encode()) <= limit:
        return text
    room = limit - len(_CUT.encode())
    if room < 0:
        raise ValueError("no room is left in it")
    kept = text.encode()[:room].decode(errors="ignore")
    return kept[: kept.rfind("\n") + 1] + _CUT


def append_github_summary(results: Results, environ: Mapping[str, str]) -> list[str]:
    """Append the summary to the file GitHub names in the environment, where it names one.

    Returns the lines to print. A summary is a courtesy: if it cannot be written, a warning says so
    and the run goes on.
    """
    name = environ.get(SUMMARY_VARIABLE)
    if not name:
        return []
    try:
        with Path(name).open("ab") as file:
            file.write(github_summary(results, SUMMARY_LIMIT - file.tell()).encode())
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        return [f"warning: the GitHub step summary was not written: {printable(why)}"]
    return []


def junit_properties(verdict: Verdict) -> list[tuple[str, str]]:
    """Return the verdict as name and value pairs for pytest's ``user_properties``."""
    properties = [
        ("kv_model", verdict.model),
        ("kv_dtype", candidate(verdict)),
        ("kv_verdict", verdict.verdict.value),
        ("kv_reasons", " ".join(dict.fromkeys(reason.code.value for reason in verdict.reasons))),
    ]
    figures = [(f"kv_{name}", f"{metric.value:.6g}") for name, metric in verdict.metrics.items()]
    return [(name, printable(value)) for name, value in properties + figures]


def _summary(results: Results) -> Iterator[str]:
    yield f"\n### KV cache: {_escaped(headline(results))}"
    if results.verdicts:
        yield from ("", _table_line(HEADER), _table_line(["---"] * len(HEADER)))
        for row in rows(results):
            model, dtype, kind, *figures = map(_escaped, row.cells)
            yield _table_line([model, dtype, f"{_MARKS[row.kind]} {kind}", *figures])
    yield ""
    yield from _notes(results)
    yield from _performance(results)
    command = next_step(results)
    if command is not None:
        yield f"\nNext:\n<pre>{_escaped(command)}</pre>"


def _notes(results: Results) -> Iterator[str]:
    if (note := cached(results)) is not None:
        yield f"- {_escaped(note)}"
    for verdict in results.verdicts:
        for reason in verdict.reasons:
            yield f"- **{_escaped(verdict.id)}** {_escaped(reason.code)}: {_escaped(reason.message)}"
    for verdict in results.verdicts:
        if (against := golden(verdict)) is not None:
            yield f"- **{_escaped(verdict.id)}** is held against goldens: {_escaped(against)}"
    for engine in failed_engines(results):
        yield f"- **{_escaped(engine.label)}** did not run: {_escaped(engine.failure or '')}"
    for note in results.notes:
        yield f"- {_escaped(note)}"


def _performance(results: Results) -> Iterator[str]:
    for performance in results.performance:
        for text in (gain(performance), *speeds(performance)):
            if text is not None:
                yield f"- **{_escaped(performance.id)}** {_escaped(text)}"


def _table_line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Return ``text`` as one line that Markdown and HTML show literally."""
    return _ACTIVE.sub(lambda found: f"&#{ord(found[0])};", printable(text))
