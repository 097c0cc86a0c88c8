"""Tables: cells, rows and verdicts in Markdown, for every page that a benchmark writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pytest_kvcache.records import Metric, Verdict


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield a whole table, line by line."""
    yield from table_head(*head)
    for row in rows:
        yield table_row(*row)


def table_head(*cells: object) -> Iterator[str]:
    """Yield the first two lines of a table."""
    yield table_row(*cells)
    yield table_row(*["---"] * len(cells))


def table_row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def in_short(verdict: Verdict) -> str:
    """Say how a verdict is, and by which codes."""
    codes = dict.fromkeys(reason.code for reason in verdict.reasons)
    return f"{verdict.verdict}: {', '.join(codes)}" if codes else str(verdict.verdict)


def position(metric: Metric | None) -> str:
    """Show a median position in tokens with its interval."""
    return f"{metric.value:.0f} [{metric.ci_low:.0f}, {metric.ci_high:.0f}]" if metric else "-"
