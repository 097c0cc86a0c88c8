"""The HTML report: one self-contained page for a browser, without scripts or outside resources.

jinja2 comes with the extra ``report`` and is imported only when a page is made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pytest_kvcache.errors import KvCacheError
from pytest_kvcache.files import write_atomically
from pytest_kvcache.records import Excerpt, Metric, Signal
from pytest_kvcache.report.results import Results
from pytest_kvcache.report.table import (
    HEADER,
    estimate,
    figure,
    gain,
    golden,
    grouped,
    headline,
    next_step,
    number,
    percent,
    room,
    rows,
    share,
    speeds,
)
from pytest_kvcache.text import printable

HTML_NAME = "report.html"


@dataclass(frozen=True, slots=True)
class Bar:
    """An interval beside the margin it was held against, in percent of a common axis."""

    low: float
    high: float
    value: float
    margin: float


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of an output, and whether a signal covers it."""

    text: str
    marked: bool


def write_html(directory: Path, results: Results) -> Path:
    """Write ``directory/report.html``, for its owner's eyes alone, and return its path.

    Raises :class:`~pytest_kvcache.errors.KvCacheError` if jinja2 is missing or the file cannot be
    written.
    """
    path = directory / HTML_NAME
    try:
        write_atomically(path, html_page(results).encode())
    except ImportError as error:
        raise KvCacheError("the HTML report needs jinja2: pip install 'pytest-kvcache[report]'") from error
    except OSError as error:
        why = error.strerror or str(error)
        raise KvCacheError(f"cannot write the HTML report to {printable(str(path))}: {why}") from error
    return path


def html_page(results: Results) -> str:
    """Return the whole report as one HTML document. Raises :class:`ImportError` without jinja2."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        line=printable,
        block=block,
        bar=bar,
        estimate=estimate,
        figure=figure,
        number=number,
        percent=percent,
        pieces=pieces,
        share=share,
        gain=gain,
        golden=golden,
        room=room,
        speeds=speeds,
        grouped=grouped,
    )
    template = resources.files(__package__).joinpath("templates/report.html").read_text("utf-8")
    page = environment.from_string(template).render(
        results=results,
        header=HEADER,
        rows=rows(results),
        headline=headline(results),
        next=next_step(results),
    )
    return page + "\n"


def block(text: str) -> str:
    """Return ``text`` with its line breaks, every other control character escaped."""
    return "\n".join(map(printable, text.expandtabs(4).split("\n")))


def bar(metric: Metric) -> Bar | None:
    """Return where a metric's interval lies beside its margin; None without a margin to show."""
    points = (metric.ci_low, metric.ci_high, metric.value, metric.margin)
    finite = [point for point in points if point is not None and math.isfinite(point)]
    if len(finite) < len(points):
        return None
    left, width = min(finite), max(finite) - min(finite) or 1.0
    return Bar(*(round(5 + 90 * (point - left) / width, 2) for point in finite))


def pieces(excerpt: Excerpt) -> list[Piece]:
    """Cut a candidate's text where its signals begin and end; only spans in characters count."""
    text = excerpt.candidate_text
    cuts: list[Piece] = []
    done = 0
    for start, end in _merged(excerpt.signals, len(text)):
        cuts += [Piece(text[done:start], marked=False), Piece(text[start:end], marked=True)]
        done = end
    return [piece for piece in [*cuts, Piece(text[done:], marked=False)] if piece.text]


def _merged(signals: Iterable[Signal], length: int) -> Iterator[tuple[int, int]]:
    """Yield the signals' spans in order, cut to the text, overlapping ones as one."""
    spans = sorted((signal.start, min(length, signal.end)) for signal in signals if signal.unit == "char")
    done = 0
    for start, end in spans:
        if end > max(start, done):
            yield max(start, done), end
            done = end
