"""Reports: every way a run's results are shown, all written from the same :class:`Results`.

The plugin prints :func:`verdict_lines`, calls :func:`write_reports` once, on the controller, and adds
:func:`junit_properties` to each verdict's test.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pytest_kvcache.errors import KvCacheError
from pytest_kvcache.report.ci import append_github_summary, github_summary, junit_properties
from pytest_kvcache.report.html import html_page, write_html
from pytest_kvcache.report.results import (
    SCHEMA_VERSION,
    Goldens,
    Results,
    RunInfo,
    Selection,
    read_results,
    results_schema,
    shipped_schema,
    write_results,
)
from pytest_kvcache.report.table import accept_step, next_step
from pytest_kvcache.report.terminal import MARKUP, Line, Segment, Style, plain, verdict_lines
from pytest_kvcache.text import printable

__all__ = [
    "MARKUP",
    "SCHEMA_VERSION",
    "Goldens",
    "Line",
    "Results",
    "RunInfo",
    "Segment",
    "Selection",
    "Style",
    "accept_step",
    "append_github_summary",
    "github_summary",
    "html_page",
    "junit_properties",
    "next_step",
    "plain",
    "read_results",
    "results_schema",
    "shipped_schema",
    "verdict_lines",
    "write_html",
    "write_reports",
    "write_results",
]


def write_reports(directory: Path, results: Results, environ: Mapping[str, str]) -> list[str]:
    """Write the results file, the HTML report and, on GitHub, the step summary.

    Returns the lines that close the terminal's summary: what was written, a warning for each courtesy
    that failed, and the command to run next. Raises :class:`~pytest_kvcache.errors.KvCacheError` if
    the results file cannot be written: other tools would take an earlier run's for this one's.
    """
    lines = [f"results: {printable(str(write_results(directory, results)))}"]
    try:
        lines.append(f"report:  {printable(str(write_html(directory, results)))}")
    except KvCacheError as error:
        lines.append(f"warning: {error}")
    lines += append_github_summary(results, environ)
    command = next_step(results)
    return [*lines, f"next:    {command}"] if command else lines
