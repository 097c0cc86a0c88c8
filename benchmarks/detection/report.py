"""Tables: ``docs/detection-results.md``, made from the results of an evaluation alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence

from detection.aims import AIMS
from detection.corpus import Half
from detection.evaluate import Evaluation, Result
from detection.markdown import code_span, markdown_table
from detection.peers import PEERS
from detection.rates import (
    OURS,
    PERIOD_BANDS,
    RULES,
    Rule,
    alarms,
    by_key,
    fails,
    fails_or_warns,
    loops,
    names_it,
    share,
)
from pytest_kvcache.measures.paired import Interval

EXAMPLES = 3
"""Excerpts shown per kind, at most."""
REAL = (
    "What models under `auto` and fp8 wrote, healthy or broken by the word of two readers or else by a "
    "criterion on the baseline's log-probabilities. Ours are given those and the baseline's output."
)
FOUND: dict[str, Rule] = {**OURS, "named rightly": names_it}


def report(evaluation: Evaluation) -> str:
    """Return the page of results as Markdown."""
    healthy = [result for result in evaluation.documents if result.is_healthy]
    damaged = [result for result in evaluation.documents if not result.is_healthy]
    sections = (
        _head(healthy, damaged, evaluation.half),
        "## Aims",
        _aims(evaluation),
        "## False alarms",
        _false_alarms(healthy),
        "### Published rules on the same documents",
        _rates_of_peers(healthy, ("kind",), _kind),
        "## Recall",
        _recall(damaged, ("damage", "severity"), _kind_and_severity),
        "### Published rules on the same damage",
        _rates_of_peers(damaged, ("damage", "severity"), _kind_and_severity),
        "## Loops by noise and period",
        _loops(damaged),
        "## Corruption by noise",
        _recall(_of_kind(damaged, "corruption"), ("noise",), _noise),
        "## With the baseline's log-probabilities",
        "Documents that the baseline engine has scored, judged with its opinion of every token.",
        _by_health(evaluation.scored),
        "## Outputs of reference models",
        REAL,
        _by_health(evaluation.real),
        "### Published rules on the same outputs",
        _rates_of_peers([r for r in evaluation.real if r.is_healthy], ("label",), _kind),
        _rates_of_peers([r for r in evaluation.real if not r.is_healthy], ("label",), _kind),
        "## Places",
        _places(damaged),
        "## False alarms, examples",
        _examples([result for result in healthy if result.signals]),
        "## Misses, examples",
        "Damage without any signal; the excerpt begins where the damage does.",
        _examples([result for result in damaged if not result.signals]),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def summary(results: Sequence[Result]) -> str:
    """Return what a detector's author looks at while tuning: rates per kind, in a few lines."""
    rows = []
    for (healthy, kind), group in by_key(results, lambda result: (result.is_healthy, result.kind)):
        rates = [cell(share(group, rule)) for rule in FOUND.values()]
        if healthy:
            rates[-1] = ""
        rows.append(("healthy" if healthy else "damaged", str(kind), f"{len(group):,}", *rates))
    return markdown_table(("", "kind", "documents", *FOUND), rows)


def cell(interval: Interval | None, *, bounds: bool = True) -> str:
    """Return a share in percent with its interval, as many digits as it needs."""
    if interval is None:
        return "–"
    text = _percent(interval.value)
    return f"{text} [{_percent(interval.low)}, {_percent(interval.high)}]" if bounds else text


def _head(healthy: Sequence[Result], damaged: Sequence[Result], half: Half) -> str:
    kinds = len({result.kind for result in healthy})
    classes = len({result.kind for result in damaged})
    origin = (
        "Thresholds were chosen on the other half; "
        "[three looks](detection.md#what-the-test-half-has-been-used-for) were taken at this one."
        if half == "test"
        else "Thresholds were chosen on these documents."
    )
    return (
        "# Detection, results\n\n"
        "<!-- Written by `make detection`; do not edit. -->\n\n"
        f"{len(healthy):,} healthy documents of {kinds} kinds and {len(damaged):,} damaged ones of "
        f"{classes}, the {half} half of the corpus. {origin} "
        "All shares are percent with Wilson's 95 % intervals. "
        "A *fail* is a signal that suffices by itself; a *warning* counts only beside the baseline's output. "
        "How the corpus is made, and how to rebuild it, is told in [Detection](detection.md)."
    )


def _aims(evaluation: Evaluation) -> str:
    rows = []
    for aim in AIMS:
        bound = f"{'≤' if aim.is_upper else '≥'} {100 * aim.bound:g}"
        row = [aim.text, bound]
        for rule in OURS.values():
            measured = aim.measure(evaluation, rule)
            row += [cell(measured), aim.is_met(measured)]
        rows.append(row)
    head = ("aim", "bound, %", "fail alone", "met?", "fail or warn", "met?")
    return (
        f"{markdown_table(head, rows)}\n\n"
        "*Yes*: the whole interval meets the bound. *Likely*: the estimate does. Recall and false alarms are "
        "to be read in one column: the same signals cause both."
    )


def _false_alarms(healthy: Sequence[Result]) -> str:
    rows = [
        (str(kind), f"{len(group):,}", *(cell(share(group, rule)) for rule in OURS.values()))
        for (kind,), group in by_key(healthy, _kind)
    ]
    total = ("**all**", f"{len(healthy):,}", *(cell(share(healthy, rule)) for rule in OURS.values()))
    signals = [
        (str(kind), severity, f"{count:,}") for (kind, severity), count in _signal_counts(healthy).items()
    ]
    by_signal = (
        markdown_table(("signal", "severity", "healthy documents with it"), signals) if signals else ""
    )
    return "\n\n".join(
        part for part in (markdown_table(("kind", "documents", *OURS), [*rows, total]), by_signal) if part
    )


def _signal_counts(results: Iterable[Result]) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for result in results:
        for key in {(signal.kind, signal.severity) for signal in result.signals}:
            counts[key] = counts.get(key, 0) + 1
    return dict(sorted(counts.items()))


def _rates_of_peers(
    results: Sequence[Result], names: tuple[str, ...], key: Callable[[Result], tuple[object, ...]]
) -> str:
    if not results:
        return ""
    rules: dict[str, Rule] = {"ours, fail": fails, **{name: alarms(name) for name in PEERS}}
    rows = []
    for values, group in by_key(results, key):
        rates = (cell(share(group, rule), bounds=False) for rule in rules.values())
        rows.append((*map(str, values), *rates))
    blank = ("",) * (len(names) - 1)
    rows.append(("**all**", *blank, *(cell(share(results, rule)) for rule in rules.values())))
    return markdown_table((*names, *rules), rows)


def _recall(
    damaged: Sequence[Result], names: tuple[str, ...], key: Callable[[Result], tuple[object, ...]]
) -> str:
    rows = [
        (*map(str, values), f"{len(group):,}", *(cell(share(group, rule)) for rule in FOUND.values()))
        for values, group in by_key(damaged, key)
    ]
    return markdown_table((*names, "documents", *FOUND), rows) if rows else ""


def _loops(damaged: Sequence[Result]) -> str:
    noises = sorted({r.damage.noise for r in loops(damaged) if r.damage and r.damage.noise is not None})
    rows = []
    for noise in noises:
        for band in (None, *PERIOD_BANDS):
            group = loops(damaged, noise, band)
            if group:
                ours = (cell(share(group, rule)) for rule in FOUND.values())
                peers = (cell(share(group, RULES[name]), bounds=False) for name in PEERS)
                rows.append((f"{noise:.0%}", band or "all", f"{len(group):,}", *ours, *peers))
    return markdown_table(("noise", "period, tokens", "documents", *FOUND, *PEERS), rows) if rows else ""


def _by_health(results: Sequence[Result]) -> str:
    rows = []
    for (is_healthy, kind), group in by_key(results, lambda result: (result.is_healthy, result.kind)):
        rates = (cell(share(group, rule)) for rule in OURS.values())
        rows.append(("healthy" if is_healthy else "damaged", str(kind), f"{len(group):,}", *rates))
    return markdown_table(("", "kind", "documents", *OURS), rows) if rows else ""


def _places(damaged: Sequence[Result]) -> str:
    placed = (r for r in damaged if r.damage and r.damage.start < r.damage.end and fails_or_warns(r))
    rows = []
    for (kind,), group in by_key(placed, _kind):
        overlaps = [result.overlap for result in group]
        touching = share(group, lambda result: result.overlap > 0)
        rows.append((str(kind), f"{len(group):,}", cell(touching), f"{statistics.median(overlaps):.2f}"))
    head = ("damage", "found", "a signal overlaps its place", "median overlap")
    return (
        f"{markdown_table(head, rows)}\n\n"
        "Overlap: characters of the signal that fits best and of the labelled damage that are common to "
        "both, over those in either."
        if rows
        else ""
    )


def _examples(results: Sequence[Result]) -> str:
    lines: list[str] = []
    for (kind,), group in by_key(results, _kind):
        lines.append(f"**{kind}** ({len(group):,})\n")
        lines += [_example(result) for result in group[:EXAMPLES]]
        lines.append("")
    return "\n".join(lines).rstrip() or "None."


def _example(result: Result) -> str:
    told = "; ".join(dict.fromkeys(f"{signal.severity}: {signal.kind}" for signal in result.signals))
    if result.damage:
        told = ", ".join(_label(result))
    return f"- {code_span(result.id)} ({told}): {code_span(result.excerpt)}"


def _label(result: Result) -> Iterator[str]:
    if result.damage:
        yield result.damage.severity
        if result.damage.period is not None:
            yield f"period {result.damage.period}"
        if result.damage.noise is not None:
            yield f"{result.damage.noise:.0%} noise"


def _of_kind(results: Iterable[Result], kind: str) -> list[Result]:
    return [result for result in results if result.kind == kind]


def _kind(result: Result) -> tuple[object, ...]:
    return (result.kind,)


def _kind_and_severity(result: Result) -> tuple[object, ...]:
    return (result.kind, result.damage.severity if result.damage else "")


def _noise(result: Result) -> tuple[object, ...]:
    noise = result.damage.noise if result.damage else None
    return ("–" if noise is None else f"{noise:.2f}",)


def _percent(value: float) -> str:
    """Return a share in percent, with two digits that mean something near 0 and near 100."""
    percent = 100 * value
    if percent in (0, 100):
        return f"{percent:.0f}"
    distance = round(min(percent, 100 - percent), 6)
    digits = 1 if distance >= 1 else 2 if distance >= 0.1 else 3
    return f"{percent:.{digits}f}"
