"""What every report says in the same words: the headline, one row per verdict, the next step.

All strings here are harmless lines (:func:`~pytest_kvcache.text.printable`); each report adds its own
markup and escapes for it.
"""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_kvcache.records import (
    EngineReport,
    Estimate,
    Measurement,
    Metric,
    Performance,
    Verdict,
    VerdictKind,
)
from pytest_kvcache.redact import redact_command
from pytest_kvcache.report.results import Results
from pytest_kvcache.text import printable

DELTA_NLL = "delta_nll"
SAME_TOP = "same_top"
KLD = "kld"
SCORED = (DELTA_NLL, KLD, "same_top_loss")
DEGENERATE_CANDIDATE = "degenerate_candidate"
DEGENERATE_BASELINE = "degenerate_baseline"

NOTHING = "-"
"""Stands in a cell for a figure that was not measured."""

NAME_LIMIT = 60
"""Characters of a name that a cell shows."""

HEADER = (
    "model", "kv dtype", "verdict", "delta NLL [95 %]", "margin", "KLD", "same-top", "degenerate (baseline)",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One verdict in words and figures, in the order of :data:`HEADER`."""

    kind: VerdictKind
    cells: tuple[str, ...]


def rows(results: Results) -> tuple[Row, ...]:
    return tuple(_row(verdict) for verdict in results.verdicts)


def headline(results: Results) -> str:
    """Return one sentence: how many verdicts of each kind, or why there is none."""
    left_out = _left_out(results)
    if results.verdicts:
        counts = Counter(verdict.verdict for verdict in results.verdicts)
        kinds = ", ".join(f"{counts[kind]} {kind}" for kind in VerdictKind if counts[kind])
        tally = f"{_count(len(results.verdicts), 'verdict')}: {kinds}"
        return tally if results.run.complete else f"partial run{left_out}; {tally}"
    return "no verdict: nothing was judged" if results.run.complete else f"partial run: no verdict{left_out}"


def candidate(verdict: Verdict) -> str:
    """Return how the user names the candidate: by its variant, or else by its kv dtype."""
    return verdict.variant or verdict.kv_dtype


def figure(metric: Metric | None) -> str:
    """Return a metric as ``0.338 [0.313, 0.367]``."""
    if metric is None:
        return NOTHING
    return f"{number(metric.value)} [{number(metric.ci_low)}, {number(metric.ci_high)}]"


def estimate(mean: Estimate) -> str:
    """Return an estimate as ``0.338 [0.313, 0.367]``, that of one prompt as ``0.338``."""
    if mean.low is None or mean.high is None:
        return number(mean.value)
    return f"{number(mean.value)} [{number(mean.low)}, {number(mean.high)}]"


def number(value: float | None) -> str:
    """Return a figure with three decimals; ``n/a`` if it is not finite."""
    if value is None:
        return NOTHING
    return f"{value:.3f}" if math.isfinite(value) else "n/a"


def grouped(metrics: Mapping[str, Metric]) -> list[tuple[str, dict[str, Metric]]]:
    """Return the metrics under headings that say what a verdict makes of them, the weightiest first."""
    groups: dict[str, dict[str, Metric]] = {heading: {} for heading in _HEADINGS}
    for name, metric in metrics.items():
        groups[_heading(name, metric)][name] = metric
    return [(heading, group) for heading, group in groups.items() if group]


def share(metric: Metric | Estimate | None) -> str:
    """Return a metric between 0 and 1 as a percentage."""
    if metric is None:
        return NOTHING
    return f"{100 * metric.value:.1f} %" if math.isfinite(metric.value) else "n/a"


def percent(probability: float | None) -> str:
    """Return a probability as ``1.25 %``, with up to three digits."""
    return NOTHING if probability is None else f"{100 * probability:.3g} %"


def sensitivity(verdict: Verdict) -> str | None:
    """Return which harms as many prompts would show, and how surely; None where nothing was judged."""
    seen = {name: metric for name, metric in verdict.metrics.items() if metric.detectable is not None}
    if not seen:
        return None
    harms = ", ".join(f"{name} {number(metric.detectable)}" for name, metric in seen.items())
    judged = next(iter(seen.values()))
    return f"{harms} (alpha {percent(judged.alpha)}, beta {percent(judged.beta)})"


def noise(verdict: Verdict) -> str | None:
    """Return in one line how much one engine differs from itself; None without scores."""
    scored = {name: metric for name, metric in verdict.metrics.items() if name in SCORED}
    if not scored:
        return None
    floors = ((name, metric.floor) for name, metric in scored.items() if metric.floor is not None)
    return ", ".join(f"{name} {number(floor)}" for name, floor in floors) or "not measured"


def gain(performance: Performance | None) -> str | None:
    """Return in one line what the cache holds beside the baseline's; None where one of them is not known."""
    if performance is None or performance.kv_capacity_ratio is None:
        return None
    return f"holds {performance.kv_capacity_ratio:.2f} times the tokens: {room(performance)}"


def room(performance: Performance) -> str:
    """Return what the cache holds as ``200,000, or 24.4 requests of 8,192``."""
    if performance.kv_capacity_tokens is None:
        return NOTHING
    requests = f"{performance.concurrency:,.1f} requests of {performance.max_model_len:,}"
    return f"{performance.kv_capacity_tokens:,}, or {requests}"


def speeds(performance: Performance) -> tuple[str, ...]:
    """Return what was measured, a line each, with the range over all rounds; or why nothing was."""
    lines = tuple(f"{_speed_name(name)}: {_speed(each)}" for name, each in performance.measured.items())
    why = performance.not_measured
    return lines if why is None else (*lines, f"not measured: {printable(why)}")


def golden(verdict: Verdict) -> str | None:
    """Return in one line which goldens were the baseline, and what wrote them; None if it ran itself."""
    return None if verdict.golden is None else f"{verdict.baseline_id}, written by {verdict.golden}"


def cached(results: Results) -> str | None:
    """Return in one line how many verdicts rest on outputs of an earlier run; None if none does."""
    count = sum(verdict.source == "cached" for verdict in results.verdicts)
    if not count:
        return None
    share = f"{count} of {_count(len(results.verdicts), 'verdict')} {'rests' if count == 1 else 'rest'}"
    return f"{share} on outputs of an earlier run (--kv-no-cache makes them anew)"


def failed_engines(results: Results) -> tuple[EngineReport, ...]:
    return tuple(engine for engine in results.engines if engine.failure is not None)


def next_step(results: Results) -> str | None:
    """Return the shell command that brings a person on, or None if all is well.

    A partial run is repeated whole; what is red is repeated alone, through the options that name
    model and candidate, so that the repetition is a complete run.
    """
    command = results.run.command
    red = [verdict for verdict in results.verdicts if not verdict.ok]
    if not command:
        return None
    if not results.run.complete:
        return _shell(_without(command, ("-k", "-m", "--deselect")))
    if not red:
        return None
    narrowed = {"--kv-models": (verdict.model for verdict in red), "--kv-dtypes": map(candidate, red)}
    options = [f"{name}={','.join(dict.fromkeys(values))}" for name, values in narrowed.items()]
    return _shell([*_without(command, narrowed), *options])


def accept_step(options: Sequence[str], test: str) -> str:
    """Return the shell command that writes one test's goldens anew, and no others.

    ``options`` are what pytest was given besides the places of tests; ``test`` is the one to name instead.
    """
    return _shell(["pytest", test, "--kv-golden-update=all", *redact_command(options)])


_HEADINGS = _PRIMARY, _SECONDARY, _BASELINE, _READING = (
    "primary: must lie within the margin",
    "secondary: must not lie beyond the margin",
    "the baseline by itself",
    "for reading: decides nothing",
)


def _heading(name: str, metric: Metric) -> str:
    if metric.margin is None:
        return _READING
    if name in SCORED:
        return _PRIMARY
    return _BASELINE if name.startswith("baseline_") else _SECONDARY


def _row(verdict: Verdict) -> Row:
    metrics = verdict.metrics
    delta, kld = metrics.get(DELTA_NLL), metrics.get(KLD)
    return Row(
        verdict.verdict,
        (
            printable(verdict.model, NAME_LIMIT),
            printable(candidate(verdict), NAME_LIMIT),
            verdict.verdict.value,
            figure(delta),
            number(delta.margin if delta else None),
            number(kld.value if kld else None),
            share(metrics.get(SAME_TOP)),
            _beside(metrics.get(DEGENERATE_CANDIDATE), metrics.get(DEGENERATE_BASELINE)),
        ),
    )


def _beside(candidate: Metric | None, baseline: Metric | None) -> str:
    if candidate is None and baseline is None:
        return NOTHING
    return f"{share(candidate)} ({share(baseline)})"


def _left_out(results: Results) -> str:
    selection = results.run.selection
    if not selection.deselected:
        return ""
    options = [("-k", selection.keyword), ("-m", selection.mark)]
    by = " ".join(f"{name} {shlex.quote(printable(value))}" for name, value in options if value)
    return f" ({_count(selection.deselected, 'kv test')} deselected{' by ' + by if by else ''})"


def _speed(measurement: Measurement) -> str:
    """Return a measurement as ``1.04 [1.01, 1.07] times: 812 [801, 820]``."""
    value, low, high = map(_rounded, (measurement.value, measurement.low, measurement.high))
    ratio = measurement.ratio
    beside = "" if ratio is None else f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] times: "
    return f"{beside}{value} [{low}, {high}]"


def _speed_name(figure: str) -> str:
    """Return how a measured figure is called."""
    return printable(figure).replace("_", " ").replace("token long", "token, long prompt")


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _without(command: Sequence[str], options: Iterable[str]) -> list[str]:
    """Return ``command`` without the given options and their values, attached or apart."""
    names = tuple(options)
    attached = tuple(f"{name}=" if name.startswith("--") else name for name in names)
    kept: list[str] = []
    skip = False
    for argument in command:
        if skip:
            skip = False
        elif argument in names:
            skip = True
        elif not argument.startswith(attached):
            kept.append(argument)
    return kept


def _shell(command: Sequence[str]) -> str:
    return printable(shlex.join(command))
