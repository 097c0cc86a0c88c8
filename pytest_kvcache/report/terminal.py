"""The summary on the terminal: verdicts, reasons and evidence, in a minute's reading.

Lines are plain data. The plugin writes each segment with its :data:`MARKUP`, so colour follows
pytest's own ``--color``; nothing a model wrote can reach the terminal as more than text.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple

from pytest_kvcache.records import Excerpt, Verdict, VerdictKind
from pytest_kvcache.report.results import Results
from pytest_kvcache.report.table import (
    HEADER,
    Row,
    cached,
    failed_engines,
    gain,
    golden,
    headline,
    noise,
    room,
    rows,
    sensitivity,
    speeds,
)
from pytest_kvcache.text import printable


class Style(Enum):
    PLAIN = auto()
    STRONG = auto()
    FAINT = auto()
    GOOD = auto()
    EXPECTED = auto()
    BAD = auto()


MARKUP: Mapping[Style, Mapping[str, bool]] = {
    Style.PLAIN: {},
    Style.STRONG: {"bold": True},
    Style.FAINT: {"light": True},
    Style.GOOD: {"green": True},
    Style.EXPECTED: {"yellow": True},
    Style.BAD: {"red": True, "bold": True},
}
"""Keyword arguments of pytest's ``TerminalReporter.write`` for each style."""

STYLE_OF = {
    VerdictKind.PASS: Style.GOOD,
    VerdictKind.KNOWN_BAD: Style.EXPECTED,
    VerdictKind.FAIL: Style.BAD,
    VerdictKind.INCONCLUSIVE: Style.BAD,
}


class Segment(NamedTuple):
    text: str
    style: Style = Style.PLAIN


Line = tuple[Segment, ...]

EXCERPTS_PER_VERDICT = 2
LINES_PER_EXCERPT = 2
LABEL_LIMIT = 60
CONTEXT = 40
"""Characters shown before the place where an output leaves its baseline."""


def verdict_lines(results: Results, *, width: int = 80) -> list[Line]:
    """Return the summary as lines of at most ``width`` columns; a table of long names may be wider."""
    lines = [_line(headline(results), Style.STRONG)]
    if results.verdicts:
        lines += [(), *_table(rows(results))]
    if (note := cached(results)) is not None:
        lines += [(), _line(note, Style.FAINT)]
    lines += _section("why", _reasons(results, width))
    lines += _section("goldens as baseline", _per_verdict(results, width, golden))
    lines += _section("harm that so many prompts show", _per_verdict(results, width, sensitivity))
    lines += _section("noise floor", _per_verdict(results, width, noise))
    lines += _section("what it buys, beside the baseline", _performance(results, width))
    lines += _section("engines that failed", _failures(results, width))
    return lines + _section("evidence", _evidence(results, width))


def plain(lines: Sequence[Line]) -> str:
    """Return the lines as text without styles."""
    return "\n".join("".join(segment.text for segment in line) for line in lines)


def _line(text: str, style: Style = Style.PLAIN) -> Line:
    return (Segment(text, style),)


def _section(title: str, content: Iterator[Line]) -> list[Line]:
    lines = list(content)
    return [(), _line(title, Style.STRONG), *lines] if lines else []


def _table(body: Sequence[Row]) -> Iterator[Line]:
    widths = [max(map(len, column)) for column in zip(HEADER, *(row.cells for row in body), strict=True)]
    yield _line("  ".join(map(str.ljust, HEADER, widths)).rstrip(), Style.FAINT)
    for row in body:
        padded = [*map(str.ljust, row.cells, widths)]
        before, verdict, after = padded[:2], padded[2], padded[3:]
        yield (
            Segment("  ".join(before) + "  "),
            Segment(verdict, STYLE_OF[row.kind]),
            Segment(("  " + "  ".join(after)).rstrip()),
        )


def _reasons(results: Results, width: int) -> Iterator[Line]:
    for verdict in results.verdicts:
        if verdict.reasons:
            yield _line(f"  {printable(verdict.id, LABEL_LIMIT)}", Style.FAINT)
        for reason in verdict.reasons:
            text = printable(f"{reason.code}: {reason.message}")
            for part in textwrap.wrap(text, width, initial_indent=" " * 4, subsequent_indent=" " * 6):
                yield _line(part)


def _per_verdict(results: Results, width: int, say: Callable[[Verdict], str | None]) -> Iterator[Line]:
    for verdict in results.verdicts:
        text = say(verdict)
        if text is not None:
            yield from _paragraph(f"{verdict.id}  ", text, width)


def _performance(results: Results, width: int) -> Iterator[Line]:
    """Yield what candidates' caches hold, and all that was measured of anyone."""
    for performance in results.performance:
        measured = speeds(performance)
        held = gain(performance) or (f"holds {room(performance)}" if measured else None)
        if held is not None:
            yield from _paragraph(f"{performance.id}  ", held, width)
        for text in measured:
            yield from _paragraph("  ", text, width)


def _failures(results: Results, width: int) -> Iterator[Line]:
    for engine in failed_engines(results):
        log = f" (log: {engine.log})" if engine.log else ""
        yield from _paragraph(f"{engine.label}  ", f"{engine.failure}{log}", width)


def _evidence(results: Results, width: int) -> Iterator[Line]:
    for verdict in results.verdicts:
        if verdict.verdict in (VerdictKind.FAIL, VerdictKind.KNOWN_BAD):
            for excerpt in results.excerpts_of(verdict)[:EXCERPTS_PER_VERDICT]:
                yield from _excerpt(verdict, excerpt, width)


def _excerpt(verdict: Verdict, excerpt: Excerpt, width: int) -> Iterator[Line]:
    yield from _paragraph(f"{verdict.id}  {excerpt.prompt_id}  ", excerpt.prompt_text, width, lines=1)
    start = _common_length(excerpt.baseline_text, excerpt.candidate_text)
    yield from _paragraph("  baseline   ", _from(excerpt.baseline_text, start), width, LINES_PER_EXCERPT)
    yield from _paragraph("  candidate  ", _from(excerpt.candidate_text, start), width, LINES_PER_EXCERPT)
    for signal in excerpt.signals:
        yield from _paragraph("  found      ", f"{signal.kind}: {signal.evidence}", width, lines=1)


def _common_length(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))


def _from(text: str, start: int) -> str:
    """Return ``text`` from shortly before ``start``, with a mark for what was left out."""
    if not text:
        return "(empty)"
    begin = max(0, start - CONTEXT)
    return ("…" if begin else "") + text[begin:]


def _paragraph(label: str, text: str, width: int, lines: int | None = None) -> Iterator[Line]:
    """Yield ``text`` wrapped behind ``label``, its later lines indented to stand below it."""
    label = "  " + printable(label, LABEL_LIMIT)
    room = max(20, width - len(label))
    shown = printable(text, None if lines is None else room * lines)
    wrapped = textwrap.wrap(shown, room, max_lines=lines, placeholder="…") or [""]
    for index, part in enumerate(wrapped):
        margin = Segment(label, Style.FAINT) if index == 0 else Segment(" " * len(label))
        yield (margin, Segment(printable(part)))
